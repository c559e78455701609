#!/usr/bin/env bash
# usage: command.sh OUT — a quarter of an hour on two cores
set -euo pipefail
python3 tests/soak/soak.py --bin build/bin --mpirun "$(command -v mpirun)" --kills 100 --seed 11 --csv "$1/kills.csv" --json "$1/soak.json"
python3 tests/soak/soak.py --bin build/bin --mpirun "$(command -v mpirun)" --ranks 3,1,2,4 --kills 12 --seed 12 \
    --csv "$1/kills_changing_ranks.csv" --json "$1/soak_changing_ranks.json"
