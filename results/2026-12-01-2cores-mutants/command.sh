#!/usr/bin/env bash
# In a checkout of 3b6e82a that tests/run.sh has built, with all parts, and tests/mutants of this commit: other sources give another draw.
# The records grow with each mutant: what they have is not done again.
set -euo pipefail
campaign() {
    python3 tests/mutants/campaign.py --source . --build build --scratch build-mutants --records records.jsonl --seed 20261201 --each 4 "$@"
}
campaign --suites cuda_kernel,nccl,cuda,cuda_mpi,comm_mpi,comm,cuda_executor # the quick ones
campaign                                                                  # survivors meet the others, too
records=records.jsonl verdicts=results/2026-12-01-2cores-mutants/verdicts.json
python3 tests/mutants/table.py "$records" "$verdicts"
python3 tests/mutants/table.py --summary "$records" "$verdicts"
