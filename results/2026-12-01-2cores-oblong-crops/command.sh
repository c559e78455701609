#!/usr/bin/env bash
# usage: command.sh OUT — in a checkout after the build of tests/run.sh. OUT gets the runs and comparison.json.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) out=$(realpath -m "$1")
export OMP_WAIT_POLICY=passive OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Streams that start their work as late as they may.
export DEEPLAB_TEST_STREAMS=late DEEPLAB_TUNING_CACHE=$out/engines.txt
mkdir -p "$out"
build/bin/deeplab-make-shapes --out "$out/shapes" --train 24 --val 4 --size 70-150 --classes 4
build/bin/deeplab-pack --voc "$out/shapes/VOCdevkit/VOC2012" --classes "$out/shapes/classes.toml" --split train --shards 2 \
    --out "$out/data"
cat >"$out/config.toml" <<'TOML'
model = {backbone = "resnet18"}
data = {train_split = "train", resize = {mode = "factor", range = [0.75, 1.5], step = 0}, pad_label = "ignore"}
train = {iterations = 6, global_batch = 6, log_every = 1}
optimizer.lr = 1e-4
TOML
# train RUN RANKS DEVICE OPTION…: with the network of the tests on the stand-ins, a sixteenth as wide.
train() {
    local run=$1 ranks=$2 device=$3
    shift 3
    mpirun --oversubscribe --bind-to none -np "$ranks" build/tests/deeplab-train-on-host --config "$out/config.toml" \
        --data "$out/data" --out "$out/$run" --threads 1 --device "$device" "$@"
}
for crop in 65x129 129x65; do
    size=(--set "data.crop=[${crop/x/, }]")
    for device in cpu cuda; do
        for ranks in 1 2 3; do
            train "$crop-$device-$ranks" "$ranks" "$device" "${size[@]}"
            code=0 # 75: stopped after its first step
            train "$crop-$device-$ranks-resumed" "$ranks" "$device" "${size[@]}" --time-budget 0.000001 || code=$?
            ((code == 75))
            train "$crop-$device-$ranks-resumed" "$ranks" "$device" "${size[@]}" --resume
        done
    done
    train "$crop-cuda-2-kept" 2 cuda "${size[@]}" --set data.cache=device
done
python3 "$here/compare.py" "$out" | tee "$out/comparison.json"
