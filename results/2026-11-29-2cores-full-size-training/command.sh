#!/usr/bin/env bash
# usage: command.sh VOC OUT PYTHON — two hours on two cores with AVX-512; PYTHON: one with PyTorch, h5py and matplotlib
set -euo pipefail
# PyTorch keeps memory that was freed, in huge pages: nothing but its time changes.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456 THP_MEM_ALLOC_ENABLE=1
build/bin/deeplab-pack --voc "$1" --split train_aug --out "$2/shards"
cmake --build build --target golden-steps
for backbone in resnet50 resnet101; do
    "$3" tests/golden/full_size.py --data "$2/shards" --out "$2" --backbone "$backbone" --parts small_lr,steps
done
