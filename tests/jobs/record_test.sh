#!/bin/bash
# benchmarks/record.py with a tiny network: what a folder of results wants, of every bench.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
[[ -x $built/bin/deeplab-bench ]] || skip "no deeplab-bench in $built"
command -v mpirun >/dev/null || skip "no mpirun"
cd "$temporary"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
record() { run timeout 150 python3 "$root/benchmarks/record.py" --bench "$built/bin/deeplab-bench" --out here "$@"; }

record --data nowhere --backbone resnet18 --crop 33
expect_status 1 "a loader without data"
expect_text "deeplab-bench loader ended with" "a loader without data"
run test -e here/summary.json
expect_status 1 "a summary of half a recording"
record --backbone resnet18 --crop 33
expect_status 0 "all but the loader"
run python3 - <<'END'
import csv
import json

summary = json.load(open("here/summary.json"))
for start in ("kernels_resnet18_33_", "step_resnet18_33_", "infer_resnet18_33_", "startup_resnet18_33_", "comm_resnet101_ranks2_",
              "checkpoint_resnet18_"):
    assert any(key.startswith(start) for key in summary), (start, summary)
for name in ("kernels", "step", "infer", "startup", "comm", "checkpoint"):
    assert len(list(csv.DictReader(open(f"here/{name}.csv")))) > 2, name
assert "version " in open("here/environment.txt").read()
END
expect_status 0 "what was recorded"
if python3 -c 'import matplotlib' 2>/dev/null; then
    for figure in kernels step startup comm checkpoint; do
        run test -s "here/$figure.svg"
        expect_status 0 "the figure $figure"
    done
fi
verdict
