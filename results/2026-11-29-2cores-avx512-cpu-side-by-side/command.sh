#!/usr/bin/env bash
# usage: command.sh NEWEST OUT — NEWEST: a python with the newest PyTorch; /usr/bin/python3 has Debian's; a quarter of an hour
set -euo pipefail
export OMP_WAIT_POLICY=passive
compare() { "$newest" benchmarks/cpu_side_by_side.py --python "newest=$newest" "$@"; }
newest=$1
# Which of PyTorch's is fastest: one round of everything.
compare --python debian=/usr/bin/python3 --rounds 1 --steps 1 --case resnet101:513:2 --out "$2/screen"
# The fastest two, and the faster of them as PyTorch comes.
compare --rounds 5 --steps 2 --mode channels_last_kept --mode contiguous_kept --mode channels_last --case resnet101:513:2 \
    --case resnet50:513:2 --out "$2"
