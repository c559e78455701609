#!/usr/bin/env bash
# VOC: a folder that holds VOCdevkit/ with train_aug.txt and val.txt (here a subset: 2,221 and 234 images).
# "before" in the tables: the same at the commit that taught the loader to tell its stages apart.
set -euo pipefail
bin=build/bin
$bin/deeplab-pack --voc "$VOC" --split train_aug --out shards
$bin/deeplab-pack --voc "$VOC" --split val --out shards
$bin/deeplab-pack --voc "$VOC" --split train_aug --encoding raw --out raw
for run in 1 2 3; do
    nice -n -10 $bin/deeplab-bench loader --data shards --seconds 4 --json source-$run.json
    nice -n -10 $bin/deeplab-bench loader --data raw --seconds 4 --json raw-$run.json
done
nice -n -10 $bin/deeplab-bench loader --data shards --cache host --seconds 4 --json host.json

export OMP_WAIT_POLICY=passive
train=(--config jobs/configs/voc_r50_subset_cpu.toml --data shards --device cpu --set train.eval_every=0 --set train.log_every=5
    --set 'data.resize={mode="short_edge", range=[256, 1026]}' --set data.blur=0.5)
nice -n -15 mpirun -np 2 --bind-to none $bin/deeplab-train "${train[@]}" --out r50 --set train.iterations=40
nice -n -15 mpirun -np 1 --bind-to none $bin/deeplab-train "${train[@]}" --out r18 --set train.iterations=60 \
    --set model.backbone=resnet18
