#!/usr/bin/env bash
# usage: command.sh BEFORE AFTER OUT — deeplab-bench of the commit before Winograd's convolutions and of a later one
set -euo pipefail
export OMP_WAIT_POLICY=passive
for which in before after; do
    bench=$1
    [[ $which == before ]] || bench=$2
    "$bench" kernels --backbone resnet101 --crop 513 --batch 2 --threads 2 --steps 2 --csv "$3/kernels_$which.csv"
done
python3 "$(dirname "$0")/summarise.py" "$3"
