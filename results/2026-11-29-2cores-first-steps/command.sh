#!/usr/bin/env bash
# usage: command.sh VOC OUT PYTHON — 47 minutes on two cores, most of them beside tests; PYTHON: one with PyTorch, h5py and matplotlib
set -euo pipefail
build/bin/deeplab-pack --voc "$1" --split train_aug --out "$2/shards"
cmake --build build --target golden-steps
for backbone in resnet50 resnet101; do
    "$3" tests/golden/full_size.py --data "$2/shards" --out "$2" --backbone "$backbone" --crop 257 --warm-up 60 --warm-up-crop 129 \
        --parts first_steps --repeats 6
done
