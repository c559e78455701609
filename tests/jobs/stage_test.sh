#!/bin/bash
# Shards on a node's own disk: two jobs at once, reuse, damage, too little space, removal.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
for program in deeplab-pack deeplab-make-shapes; do
    [[ -x $built/bin/$program ]] || skip "$built/bin/$program is missing"
done
cd "$temporary"
"$built/bin/deeplab-make-shapes" --out drawn --train 8 --val 4 --size 64x64 >/dev/null
for split in train val; do
    "$built/bin/deeplab-pack" --voc drawn/VOCdevkit/VOC2012 --classes drawn/classes.toml --split $split --out shards \
        >pack.log 2>&1 || failed "packing: $(<pack.log)"
done
node=$root/jobs/lib/stage_node.sh
stage() { timeout 60 "$node" stage "${2:-shards}" "$temporary/${3:-disk}" "$1" "$built/bin/deeplab-pack"; }
flip() { # FILE: one byte of it
    local byte
    byte=$(tail -c 2000 "$1" | head -c 1 | od -An -tu1)
    # shellcheck disable=SC2059
    printf "\\x$(printf %x $(((byte + 1) % 256)))" | dd of="$1" bs=1 seek=$(($(wc -c <"$1") - 2000)) conv=notrunc status=none
}
me=deeplab-job-pid$$

# Two jobs at once: one copies, the other waits and uses the copy.
stage $me >one.log 2>&1 &
first=$!
run stage deeplab-job-pid1
expect_status 0 "the second of two jobs"
wait $first || failed "the first of two jobs: $(<one.log)"
output+=$(<one.log)
expect "one of them copied: $output" [ "$(grep -c copied <<<"$output")" = 1 ]
expect "the other did not: $output" [ "$(grep -c 'uses the copy' <<<"$output")" = 1 ]
copy=$(readlink disk/$me)
expect "the copy is whole" diff -r shards "$copy"
expect "both use it" [ "$(readlink disk/deeplab-job-pid1)" = "$copy" ]

# It stays while another job uses it.
run "$node" leave "$temporary/disk" $me remove
expect "a copy that another job uses stays" test -d "$copy"

# A damaged copy is not used, and not taken from under the other job.
flip "$copy/train-00000-of-00001.h5"
run stage $me
expect_status 3 "a damaged copy that another job uses"
rm disk/deeplab-job-pid1
run stage $me
expect_status 0 "a damaged copy"
expect_text "does not verify; copies again" "a damaged copy"
expect "the copy is whole again" diff -r shards "$copy"
ln -s "$copy" disk/deeplab-job-pid999999999 # of a process that is gone
run "$node" leave "$temporary/disk" $me remove
expect "the last one removes the copy" test ! -e "$copy"
expect "and its link" test ! -L disk/$me

# Damaged shards are refused; what a killed copy left is removed.
cp -r shards damaged
flip damaged/val-00000-of-00001.h5
mkdir -p "$copy.part" && touch "$copy.part/rest"
run stage $me damaged
expect_status 3 "damaged shards"
expect_text "deeplab-pack verify" "damaged shards: what to do"
expect "nothing of them stays" [ -z "$(find disk -name '*.h5')" ]
expect "a killed copy's rest is gone" [ ! -e "$copy.part" ]
run stage $me nowhere
expect_status 3 "no shards"
touch file
run stage $me shards file/disk
expect_status 2 "no folder to write to"

# Without space the shards stay where they are.
mkdir small
if ((EUID == 0)) && mount -t tmpfs -o size=64k tmpfs small 2>/dev/null; then
    cleanups+=("umount $temporary/small")
    run stage $me shards small
    expect_status 0 "too little space"
    expect_text "reads them from" "too little space"
    expect "the link is to the shards" [ "$(readlink small/$me)" = "$temporary/shards" ]
    run "$node" leave "$temporary/small" $me remove
    expect "the shards stay" test -f shards/train.json
else
    echo "not tried: too little space (no leave to mount)"
fi
verdict
