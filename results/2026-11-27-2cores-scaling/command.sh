#!/usr/bin/env bash
# usage: command.sh OUT — four minutes on two idle cores
exec jobs/scaling.sh --sizes "1 2" --weak 2 --strong 4 --out "$1" --network benchmarks/networks/shared_memory.json --backbone resnet50 \
    --crop 257 --threads 1
