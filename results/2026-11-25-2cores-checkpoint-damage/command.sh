#!/usr/bin/env bash
# After a build (tests/run.sh leaves the programs in build/bin, the tests in build/tests). Same seeds, same damages; the
# moments of SIGKILL depend on the machine. The full-disk and read-only parts need the right to mount.
set -euo pipefail
bin=build/bin

# In one process, a narrow network: 200 truncations, 200 flips, each resumed.
DEEPLAB_DAMAGES=200 build/tests/train_tests --gtest_filter='TrainerTest.EveryDamage*' | grep '^of '

# Whole programs, ResNet-18 (the long form: without the numbers).
tests/damage/damage_checkpoints.py --bin "$bin" --damages 2 --leftovers 2 --kills 2

# How long a step waits for the copy of a ResNet-101, and how long the write takes: the line "checkpoints:".
work=$(mktemp -d --tmpdir=/tmp)
cat >"$work/config.toml" <<'END'
[model]
backbone = "resnet101"
[data]
train_split = "train"
crop = 65
resize = {mode = "none"}
[train]
iterations = 8
global_batch = 4
log_every = 1
[checkpoint]
every = 3
END
"$bin/deeplab-make-shapes" --out "$work/data" --train 8 --val 1 --size 96x80
"$bin/deeplab-pack" --voc "$work/data" --classes "$work/data/classes.toml" --split train --out "$work/shards"
"$bin/deeplab-train" --config "$work/config.toml" --data "$work/shards" --out "$work/run" --device cpu --threads 2 2>&1 |
    grep checkpoints:
rm -r "$work"
