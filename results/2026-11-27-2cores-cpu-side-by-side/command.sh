#!/usr/bin/env bash
# usage: command.sh NEWEST OUT — NEWEST: a python with the newest PyTorch; python3 has Debian's; half an hour
set -euo pipefail
export OMP_WAIT_POLICY=passive
compare() { python3 benchmarks/cpu_side_by_side.py --rounds 5 "$@"; }
debian=(--python debian=/usr/bin/python3) newest=(--python "newest=$1")

# Which of PyTorch's is fastest: one round of everything.
python3 benchmarks/cpu_side_by_side.py --rounds 1 --steps 1 "${debian[@]}" "${newest[@]}" --mode channels_last --mode contiguous \
    --mode compile --case resnet50:257:4 --case infer:resnet101:513:1 --case resnet101:513:2 --out "$2/screen"

compare "${debian[@]}" "${newest[@]}" --mode contiguous --steps 1 --case resnet101:513:2 --case resnet50:257:4 --out "$2"
compare "${debian[@]}" --mode contiguous --steps 1 --case resnet101:257:4 --case resnet50:513:2 --out "$2"
compare "${newest[@]}" --mode contiguous --mode compile --steps 3 --case infer:resnet101:513:1 --out "$2"
