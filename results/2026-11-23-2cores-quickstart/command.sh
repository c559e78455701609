#!/usr/bin/env bash
# From a clean clone; CCACHE_DISABLE so that the build's time is that of a new machine.
set -euo pipefail
export CCACHE_DISABLE=1
time jobs/quickstart.sh
benchmarks/strip.py quickstart strip.png
