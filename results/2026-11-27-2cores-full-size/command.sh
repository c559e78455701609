#!/usr/bin/env bash
# usage: command.sh VOC OUT — half an hour on two cores, float64 on OpenBLAS
set -euo pipefail
build/bin/deeplab-pack --voc "$1" --split train_aug --out "$2/shards"
cmake --build build --target golden-steps
for backbone in resnet50 resnet101; do
    python3 tests/golden/full_size.py --data "$2/shards" --out "$2" --backbone "$backbone" --parts kinkfree,random
done
