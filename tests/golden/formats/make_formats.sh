#!/usr/bin/env bash
# Makes the files of this folder with the programs of a build. They were made once, by the last program that knew only
# version 1 of the formats, and are not made again: README.md.
# usage: make_formats.sh BUILD OUT
set -euo pipefail
build=$1
out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
"$build/bin/deeplab-make-shapes" --out "$work" --train 3 --val 2 --size 33x40 --classes 3 --seed 7
for split in "train --shards 2" "val --shards 1 --encoding raw"; do
    # shellcheck disable=SC2086
    "$build/bin/deeplab-pack" --voc "$work" --classes "$work/classes.toml" --split $split --out "$out"
done
DEEPLAB_WRITE_CHECKPOINT=$out/checkpoint-v1.h5 "$build/tests/weights_tests" --gtest_filter=Formats.Version1Checkpoint
