#!/bin/bash
# jobs/get_weights.sh against a server on this machine with a small file.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"

command -v python3 >/dev/null || skip "no python3 for the test's server"
command -v curl >/dev/null || command -v wget >/dev/null || skip "neither curl nor wget"
command -v sha256sum >/dev/null || skip "no sha256sum"

served=$temporary/served
mkdir "$served"
head -c 60000 /dev/urandom >"$served/made"
digits=$(sha256sum <"$served/made" | cut -c 1-8)
file=net-$digits.pth
mv "$served/made" "$served/$file"
head -c 60000 /dev/urandom >"$served/other-$digits.pth"

get() { # DIR VARIABLE=VALUE…
    run env WEIGHTS_URL="$address/$file" "${@:2}" timeout 60 bash "$root/jobs/get_weights.sh" "$1"
}

start_server "$served" --cut 7000
get "$temporary/a"
expect_status 0 "a download that breaks off is continued"
expect "the file is there" cmp "$served/$file" "$temporary/a/$file"
expect "nothing else is left" [ "$(ls -A "$temporary/a")" = "$file" ]
expect "continued at the byte where it broke off" grep -q "^/$file 7000 206$" "$requests"
before=$(wc -l <"$requests")
get "$temporary/a"
expect_status 0 "second call"
expect "the second call fetches nothing" [ "$(wc -l <"$requests")" = "$before" ]

mkdir "$temporary/left"
head -c 30000 "$served/$file" >"$temporary/left/$file.part"
get "$temporary/left" WEIGHTS_BYTES=60000
expect_status 0 "an earlier call's part is continued"
expect "only the rest was fetched" grep -q "^/$file 30000 206$" "$requests"
expect "… to the same file" cmp "$served/$file" "$temporary/left/$file"

printf damaged-damaged- | dd of="$temporary/a/$file" bs=1 seek=100 conv=notrunc 2>/dev/null
get "$temporary/a"
expect_status 3 "a damaged file is refused"
expect_text "does not begin with $digits" "a damaged file"
expect "… and kept to be looked at" [ "$(ls -A "$temporary/a")" = "$file.refused" ]

get "$temporary/b" WEIGHTS_URL="$address/other-$digits.pth"
expect_status 3 "a file of another hash is refused"
expect "… and is not used" [ ! -e "$temporary/b/other-$digits.pth" ]
get "$temporary/c" WEIGHTS_BYTES=60001
expect_status 3 "a wrong size is refused"
expect_text "has 60000 bytes and should have 60001" "a wrong size"
get "$temporary/d" WEIGHTS_URL="$address/none-$digits.pth"
expect_status 4 "a missing file"
expect_text "WEIGHTS_URL" "a missing file names the variable"

run bash "$root/jobs/get_weights.sh" --dry-run "$temporary/never"
expect_status 0 "--dry-run"
expect_text "would fetch https://download.pytorch.org/models/resnet101-5d3b4d8f.pth" "--dry-run"
expect_text "178728960 bytes, SHA-256 5d3b4d8f" "--dry-run says what is checked"
while read -r network expected; do
    run bash "$root/jobs/get_weights.sh" --network "$network" --dry-run "$temporary/never"
    expect_status 0 "--network $network"
    expect_text "$expected" "--network $network"
done <<'END'
resnet101_v2 models/resnet101-cd907fc2.pth to
resnet101_v2 SHA-256 cd907fc2
resnet50 models/resnet50-0676ba61.pth
resnet50_v2 models/resnet50-11ad3fa6.pth
resnet18 models/resnet18-f37072fd.pth
mobilenet_v2 models/mobilenet_v2-b0353104.pth
mobilenet_v2_v2 models/mobilenet_v2-7ebf99e0.pth
xception41 timm/xception41.tf_in1k/resolve/main/model.safetensors
xception65 timm/xception65.ra3_in1k/resolve/main/model.safetensors
xception71 /never/xception71.tf_in1k.safetensors
END
run bash "$root/jobs/get_weights.sh" --network resnet34 "$temporary/never"
expect_status 2 "an unknown network"
expect_text "use one of resnet101 resnet101_v2" "an unknown network names those that there are"
run bash "$root/jobs/get_weights.sh" --network
expect_status 2 "--network without a name"
run bash "$root/jobs/get_weights.sh" --help
expect_status 0 "--help"
expect_text "example:" "--help"
run bash "$root/jobs/get_weights.sh"
expect_status 2 "no folder"
run bash "$root/jobs/get_weights.sh" a b
expect_status 2 "two folders"
run bash "$root/jobs/get_weights.sh" --out x
expect_status 2 "an unknown option"
get "$temporary/never" WEIGHTS_URL="$address/net.pth"
expect_status 2 "a name without digits"
get "$temporary/never" WEIGHTS_BYTES=170MB
expect_status 2 "a size that is no number"
expect "wrong usage makes no folder" [ ! -e "$temporary/never" ]

verdict
