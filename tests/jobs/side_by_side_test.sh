#!/bin/bash
# benchmarks/cpu_side_by_side.py with a tiny network: both kinds of case, and its summary redone from its rounds.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
[[ -x $built/bin/deeplab-bench ]] || skip "no deeplab-bench in $built"
python=$(python_with torch) || skip "Python has no PyTorch"
cd "$temporary"
compare() { run timeout 500 "$python" "$root/benchmarks/cpu_side_by_side.py" --bench "$built/bin/deeplab-bench" "$@"; }

compare --case resnet18:33 --out here
expect_status 2 "a case without its batch"
compare --case infer:resnet18:65:2 --out here
expect_status 2 "two images at a time"
expect_text "its batch is 1" "two images at a time"
compare --case resnet18:33:2 --case infer:resnet18:65:1 --mode channels_last_kept --rounds 2 --steps 1 --threads 1 --out here
expect_status 0 "a step and an image"
expect_text "| train | resnet18 | 33 | 2 |" "the table's step"
expect_text "| infer | resnet18 | 65 | 1 |" "the table's image"
run python3 - <<'END'
import csv
import json
import statistics

summary = json.load(open("here/summary.json"))
rows = list(csv.DictReader(open("here/rounds.csv")))
assert len(rows) == 8, rows
for kind, prefix in ("train", "train_r18_33_batch2_"), ("infer", "infer_r18_65_batch1_"):
    sides = [[r for r in rows if r["kind"] == kind and (r["side"] == "ours") == ours] for ours in (True, False)]
    ratios = [float(theirs["step_s"]) / float(ours["step_s"]) for ours, theirs in zip(*sides)]
    for name, value in ("ratio", statistics.median(ratios)), ("ratio_min", min(ratios)), ("ratio_max", max(ratios)):
        assert abs(summary[prefix + name] / value - 1) < 0.001, (prefix + name, summary, ratios)  # four places
    ours, theirs = (max(int(r["peak_bytes"]) for r in side) for side in sides)
    assert abs(summary[prefix + "memory_ratio"] / (ours / theirs) - 1) < 0.001, summary
END
expect_status 0 "the summary is that of the rounds"
# A case that fails is its own: image pooling of one value a channel cannot be normalised.
run "$python" "$root/benchmarks/pytorch_baseline.py" --device cpu --backbone resnet18 --crop 33 --batch 1 2 --steps 2 --warmup 0 \
    --json cases.jsonl
expect_status 1 "a case that fails"
run python3 -c 'import json; a, b = map(json.loads, open("cases.jsonl")); print("error" in a, "step_ms" in a, b["step_ms"] > 0, b["torch"])'
expect_text "True False True" "a case that fails"
echo "other,columns" >here/rounds.csv
compare --case resnet18:33:2 --out here
expect_status 1 "rounds of another kind"
expect_text "give another --out" "rounds of another kind"
verdict
