#!/usr/bin/env bash
# After a build (tests/run.sh leaves the programs in build/bin). Same seed, same damages.
set -euo pipefail
tests/damage/damage_shards.py --bin build/bin --json summary.json
