#!/usr/bin/env bash
# usage: command.sh VOC OLD_PACK — in a checkout after its build, with a Python that has pycocotools, h5py and Pillow; OLD_PACK is
# deeplab-pack of a build before --coco.
set -euo pipefail
voc=$1 old=$2 here=$(dirname "$0") pack=build/bin/deeplab-pack
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tests/golden/coco_oracle.py masks --program build/tests/deeplab-coco-masks
build/bin/deeplab-make-shapes --coco --out "$work" --train 120 --val 10
data=(--coco "$work/coco/instances_train.json" --images "$work/coco/train" --map "$work/coco/map.toml")
tests/golden/coco_oracle.py labels --pack "$pack" "${data[@]}"
tests/golden/coco_oracle.py labels --pack "$pack" "${data[@]}" --clutter 1
for ranks in 1 2 3; do
    mpirun --oversubscribe --bind-to none -np "$ranks" "$pack" "${data[@]}" --shards 5 --out "$work/ranks$ranks"
    diff -r "$work/ranks1" "$work/ranks$ranks"
done
for encoding in source raw; do
    "$old" --voc "$voc" --split val --encoding "$encoding" --out "$work/old-$encoding"
    "$pack" --voc "$voc" --split val --encoding "$encoding" --out "$work/new-$encoding"
    diff -r "$work/old-$encoding" "$work/new-$encoding"
done
# A large file: read, checked, and every annotation of 40 of its 80 categories selected; no image is there.
python3 "$here/make_json.py" "$work/large.json"
mkdir "$work/none"
{
    printf '[[class]]\nname = "background"\n'
    for id in $(seq 1 40); do printf '[[class]]\nname = "k%d"\nlabels = [%d]\n' "$id" "$id"; done
} >"$work/map.toml"
for rule in "--min-area 1000000" "--missing skip"; do
    read -ra words <<<"$rule"
    /usr/bin/time -f '%M KB at most, %e s' "$pack" --coco "$work/large.json" --images "$work/none" --map "$work/map.toml" \
        "${words[@]}" --out "$work/large" || (($? == 3)) # nothing is left to be packed
done
