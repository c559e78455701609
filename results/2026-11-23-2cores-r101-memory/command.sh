#!/usr/bin/env bash
# One rank, two threads: three steps of ResNet-101 at 513x513, batch 2, and the checkpoint at the end.
set -euo pipefail
/usr/bin/time -v build/bin/deeplab-train --config jobs/configs/voc_r101_reference.toml --data shards --out run \
    --set train.global_batch=2 --set train.iterations=3 --set train.log_every=1 --set train.eval_every=0
