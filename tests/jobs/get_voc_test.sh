#!/bin/bash
# jobs/get_voc.sh against a server on this machine with small archives.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"

command -v python3 >/dev/null || skip "no python3 for the test's server"
command -v zip >/dev/null || command -v python3 >/dev/null || skip "nothing makes zip files"

# Archives with the layout of the real ones.
served=$temporary/served
mkdir -p "$served" "$temporary/src/VOCdevkit/VOC2012"/{JPEGImages,SegmentationClass,ImageSets/Segmentation}
mkdir -p "$temporary/src/SegmentationClassAug" "$temporary/src/__MACOSX/SegmentationClassAug"
head -c 50000 /dev/urandom >"$temporary/src/VOCdevkit/VOC2012/JPEGImages/a.jpg"
head -c 500 /dev/urandom >"$temporary/src/VOCdevkit/VOC2012/SegmentationClass/a.png"
echo a >"$temporary/src/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
head -c 20000 /dev/urandom >"$temporary/src/SegmentationClassAug/a.png"
head -c 100 /dev/urandom >"$temporary/src/__MACOSX/SegmentationClassAug/._a.png"
tar -cf "$served/voc.tar" -C "$temporary/src" VOCdevkit
(cd "$temporary/src" && python3 -m zipfile -c "$served/aug.zip" __MACOSX SegmentationClassAug)
echo '<!DOCTYPE html><p>too many requests' >"$served/page.zip"
echo 'not an archive' >"$served/text.tar"
voc_bytes=$(wc -c <"$served/voc.tar")

get() { # DIR
    run env VOC_URL="$address/voc.tar" VOC_BYTES="$voc_bytes" AUG_URL="$address/aug.zip?dl=1" "${extra[@]}" \
        timeout 60 bash "$root/jobs/get_voc.sh" "$1"
}
requests() { wc -l <"$requests"; }
is_complete() { # DIR
    diff -r "$temporary/src/VOCdevkit/VOC2012" "$1/VOCdevkit/VOC2012" --exclude SegmentationClassAug &&
        diff -r "$temporary/src/SegmentationClassAug" "$1/VOCdevkit/VOC2012/SegmentationClassAug" &&
        [[ $(ls -A "$1") == VOCdevkit ]]
}

# The tools other than curl and wget, so that each can be hidden.
mkdir "$temporary/tools"
for tool in bash env timeout tar unzip bsdtar python3 mktemp mkdir mv rm find head wc tr sleep md5sum cat dirname tail; do
    found=$(command -v "$tool") || continue
    printf '#!/bin/bash\nexec %q "$@"\n' "$found" >"$temporary/tools/$tool"
    chmod +x "$temporary/tools/$tool"
done

downloaders=()
for tool in curl wget; do
    found=$(command -v "$tool") || continue
    downloaders+=("$tool")
    mkdir "$temporary/only-$tool"
    ln -s "$found" "$temporary/only-$tool/$tool"
done
((${#downloaders[@]})) || skip "neither curl nor wget"

for tool in "${downloaders[@]}"; do
    extra=(PATH="$temporary/only-$tool:$temporary/tools")
    data=$temporary/data-$tool

    start_server "$served" --cut 7000
    get "$data"
    expect_status 0 "$tool: a download that breaks off is continued"
    expect "$tool: everything is unpacked, nothing else is left" is_complete "$data"
    expect "$tool: continued at the byte where it broke off" grep -q '^/voc.tar 7000 206$' "$requests"
    before=$(requests)
    get "$data"
    expect_status 0 "$tool: second call"
    expect "$tool: the second call fetches nothing" [ "$(requests)" = "$before" ]

    # What an interrupted call leaves.
    start_server "$served"
    mkdir -p "$temporary/left-$tool"
    head -c 30000 "$served/voc.tar" >"$temporary/left-$tool/VOCtrainval_11-May-2012.tar.part"
    cp "$served/aug.zip" "$temporary/left-$tool/SegmentationClassAug.zip.part"
    get "$temporary/left-$tool"
    expect_status 0 "$tool: an earlier call's parts are continued"
    expect "$tool: … to the same data" is_complete "$temporary/left-$tool"
    expect "$tool: only the rest was fetched" grep -q '^/voc.tar 30000 206$' "$requests"

    extra+=(VOC_BYTES=$((voc_bytes + 1)))
    get "$temporary/size-$tool"
    expect_status 3 "$tool: a wrong size is refused"
    expect_text "has $voc_bytes bytes and should have $((voc_bytes + 1))" "$tool: wrong size"
    expect "$tool: a wrong size is not unpacked" [ ! -e "$temporary/size-$tool/VOCdevkit" ]
    expect "$tool: a refused file is not continued later" \
        [ ! -e "$temporary/size-$tool/VOCtrainval_11-May-2012.tar.part" ]

    extra=(PATH="$temporary/only-$tool:$temporary/tools" VOC_URL="$address/none.tar")
    get "$temporary/none-$tool"
    expect_status 4 "$tool: a missing file"
    expect_text "VOC_URL" "$tool: a missing file names the variable"

    start_server "$served" --no-range
    extra=(PATH="$temporary/only-$tool:$temporary/tools")
    mkdir "$temporary/whole-$tool"
    head -c 30000 "$served/voc.tar" >"$temporary/whole-$tool/VOCtrainval_11-May-2012.tar.part"
    get "$temporary/whole-$tool"
    expect_status 0 "$tool: a server without ranges"
    expect "$tool: … gives the same data" is_complete "$temporary/whole-$tool"
done

start_server "$served"
extra=(AUG_URL="$address/page.zip")
get "$temporary/page"
expect_status 3 "a web page in place of the zip is refused"
expect_text "not a zip" "a web page in place of the zip"
expect "what was fetched before is kept" [ -d "$temporary/page/VOCdevkit/VOC2012/JPEGImages" ]
extra=()
get "$temporary/page"
expect_status 0 "the next call completes it"
expect "the refused file stays to be looked at" [ -f "$temporary/page/SegmentationClassAug.zip.refused" ]

extra=(VOC_URL="$address/text.tar" VOC_BYTES=)
get "$temporary/text"
expect_status 3 "a file that is no archive is refused"
expect "… and nothing is unpacked" [ ! -e "$temporary/text/VOCdevkit" ]

extra=(VOC_BYTES=1999639040 VOC_URL="$address/voc.tar")
get "$temporary/official"
expect_status 3 "the real archive's size is checked unless overridden"

extra=()
mkdir "$temporary/by-hand"
cp "$served/voc.tar" "$temporary/by-hand/VOCtrainval_11-May-2012.tar"
head -c 5000 "$served/aug.zip" >"$temporary/by-hand/SegmentationClassAug.zip"
get "$temporary/by-hand"
expect_status 3 "a damaged file put there by hand is refused"
cp "$served/aug.zip" "$temporary/by-hand/SegmentationClassAug.zip"
before=$(requests)
get "$temporary/by-hand"
expect_status 0 "files put there by hand are taken"
expect "… and nothing is fetched" [ "$(requests)" = "$before" ]

mkdir -p "$temporary/partial/VOCdevkit/VOC2012/JPEGImages"
get "$temporary/partial"
expect_status 3 "an incomplete VOC2012 folder is refused"
expect_text "lacks SegmentationClass" "an incomplete VOC2012 folder"

run bash "$root/jobs/get_voc.sh" --help
expect_status 0 "--help"
expect_text "example:" "--help"
run bash "$root/jobs/get_voc.sh"
expect_status 2 "no folder"
run bash "$root/jobs/get_voc.sh" --out x
expect_status 2 "an unknown option"
run env VOC_BYTES=2GB bash "$root/jobs/get_voc.sh" "$temporary/never"
expect_status 2 "a size that is no number"
run env PATH="$temporary/tools" bash "$root/jobs/get_voc.sh" "$temporary/never"
expect_status 2 "neither curl nor wget"
expect "wrong usage makes no folder" [ ! -e "$temporary/never" ]

verdict
