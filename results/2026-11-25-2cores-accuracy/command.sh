#!/usr/bin/env bash
# usage: command.sh SCRATCH   (from the repository's root, programs in build/bin; the networks need about 1 GB of memory)
set -euo pipefail
scratch=$1
bin=build/bin
out=$(dirname "$0")

# Initial weights, generated images.
for backbone in resnet18 resnet50 resnet101; do
    "$bin/deeplab-bench" accuracy --backbone "$backbone" --crop 129 --batch 4 --precision bf16 \
        --csv "$out/$backbone.csv" --json "$scratch/$backbone.json"
done
"$bin/deeplab-bench" accuracy --backbone resnet50 --crop 129 --batch 4 --precision fp32 --threads 3 \
    --csv "$scratch/fp32.csv" --json "$scratch/fp32.json"

# The quick start's data and network, half its steps, in fp32 and in bf16; then the errors from its trained weights.
"$bin/deeplab-make-shapes" --out "$scratch/data"
voc=$scratch/data/VOCdevkit/VOC2012
for split in train val; do
    "$bin/deeplab-pack" --voc "$voc" --classes "$scratch/data/classes.toml" --split "$split" --out "$scratch/data"
done
for precision in fp32 bf16; do
    "$bin/deeplab-train" --config jobs/configs/quickstart_cpu.toml --data "$scratch/data" --out "$scratch/$precision" \
        --set train.iterations=160 --set "train.precision=$precision"
done
"$bin/deeplab-bench" accuracy --weights "$scratch/fp32" --data "$scratch/data" --split train --crop 129 --batch 4 \
    --precision bf16 --csv "$out/resnet18_trained.csv" --json "$scratch/trained.json"

(cd "$out" && gnuplot depth.gnuplot)

# PyTorch's own bf16 (autocast) on a ResNet-18 with a head of two 3x3, initial weights: the same size of error.
/usr/bin/python3 "$out/pytorch_autocast.py"
