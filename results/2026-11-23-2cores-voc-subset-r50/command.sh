#!/usr/bin/env bash
# VOC: a folder that holds VOCdevkit/ with train_aug.txt and val.txt (here a subset: 2,221 and 234 images).
set -euo pipefail
bin=build/bin
mpirun -np 2 $bin/deeplab-pack --voc "$VOC/VOCdevkit" --split train_aug --out shards
mpirun -np 2 $bin/deeplab-pack --voc "$VOC/VOCdevkit" --split val --out shards
$bin/deeplab-pack verify shards
# Planned for 1000 iterations; after 596 the run was stopped with SIGUSR1 (exit code 75) and went on to 950.
mpirun -np 2 $bin/deeplab-train --config jobs/configs/voc_r50_subset_cpu.toml --data shards --out run \
    --set train.iterations=1000 --set train.eval_every=500 &
mpi=$!
while ! [[ -e run/checkpoints/step-0000547.h5 ]]; do sleep 10; done
sleep 120
kill -USR1 $mpi
wait $mpi || [[ $? == 75 ]]
mpirun -np 2 $bin/deeplab-train --config jobs/configs/voc_r50_subset_cpu.toml --data shards --out run --resume \
    --set train.iterations=950 --set train.eval_every=950
w=run/checkpoints/latest.h5
mpirun -np 2 $bin/deeplab-eval --weights $w --data shards --split val --json eval_full.json
mpirun -np 2 $bin/deeplab-eval --weights $w --data shards --split val --protocol centre-crop --json eval_centre.json
$bin/deeplab-predict --weights $w --out predictions "$VOC"/VOCdevkit/VOC2012/JPEGImages/{2007_000033,2007_000129,2007_000323}.jpg
benchmarks/run_to_csv.py run .
