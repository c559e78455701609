#!/usr/bin/env bash
# usage: command.sh OUT — a quarter of an hour on two cores
set -euo pipefail
python3 tests/soak/soak.py --bin build/bin --mpirun "$(command -v mpirun)" --kills 100 --seed 11 --csv "$1/kills.csv" --json "$1/soak.json"
