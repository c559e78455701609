#!/usr/bin/env bash
# usage: command.sh VOC2012 OUT — evaluates a network of random values on the val list three ways, and each again by the script.
# OUT takes 2 GB. Weights: lr 0, so that 15 steps only measure the batch norms' running statistics.
set -euo pipefail
voc=$1 out=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=$root/${DEEPLAB_BUILD:-build}/bin
for split in train_aug val; do "$bin/deeplab-pack" --voc "$voc" --split $split --out "$out/shards"; done
"$bin/deeplab-train" --config "$root/jobs/configs/voc_r50_subset_cpu.toml" --data "$out/shards" --out "$out/run" \
    --set model.backbone=resnet18 --set train.iterations=15 --set train.eval_every=0 --set data.crop=97 --set optimizer.lr=0

compare() { # NAME options of deeplab-eval
    local name=$1
    shift
    "$bin/deeplab-eval" --weights "$out/run/checkpoints/latest.h5" --data "$out/shards" --split val "$@" \
        --json "$out/$name.json" --save-logits "$out/$name" >"$out/$name.txt"
    "$root/tests/golden/evaluate.py" --images "$voc/JPEGImages" --masks "$voc/SegmentationClassAug" \
        --logits "$out/$name" --json "$out/$name.json" --summary "$out/$name.summary.json"
}
compare full
compare centre_crop --protocol centre-crop
compare full_scales_flip --scales 0.3,0.5 --flip
