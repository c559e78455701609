#!/bin/bash
# jobs/scaling.sh on this machine with a tiny network, its report, and the model's arithmetic by hand.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
[[ -x $built/bin/deeplab-bench ]] || skip "no deeplab-bench in $built"
command -v mpirun >/dev/null || skip "no mpirun"
cd "$temporary"
export DEEPLAB_BUILD=$built
scaling() { run timeout 120 bash "$root/jobs/scaling.sh" "$@"; }
small=(--backbone resnet18 --crop 33 --steps 1 --warmup 0 --threads 1)

scaling --help
expect_status 0 "--help"
expect_text "example:" "--help"
scaling --sizes "1 2" --out here
expect_status 2 "neither sweep"
scaling --sizes "1 two" --weak 2 --out here
expect_status 2 "a size that is no number"
scaling --sizes "1 3" --strong 4 --out here --dry-run
expect_status 2 "ranks that do not divide the global batch"
expect_text "3 ranks do not divide the global batch 4" "ranks that do not divide the global batch"
scaling --launcher slurm --sizes "1 2" --weak 2 --out here --dry-run --device cuda
expect_text "sbatch --parsable -N 2 " "a job per size"
expect_text "weak:2:2" "a job per size"
run env SLURM_JOB_ID=1 SLURM_JOB_NUM_NODES=2 SLURM_GPUS_ON_NODE=4 SLURM_CPUS_ON_NODE=64 bash "$root/jobs/scaling.sh" \
    --launcher slurm --point strong:16:2 --out here --dry-run -- --device cuda
expect_text "--ntasks=8 " "ranks of a job"
expect_text "step --batch 2 --json here/strong-0002.json.part --device cuda" "the local batch of a strong point"
scaling --report "$temporary"
expect_status 1 "a report of nothing"

many=$(($(nproc) + 1))
scaling --sizes "1 $many" --weak 2 --strong $((2 * many)) --out here --interconnect "$root/benchmarks/interconnects/h100_hdr.json" "${small[@]}"
expect_status 0 "two sweeps"
expect_text "| weak | 1 | 1 | 2 |" "two sweeps: the table"
expect_text "shared processors: not scaling" "more ranks than processors are called that"
for file in README.md scaling.csv summary.json "weak-000$many.json" strong-0001.json; do
    run test -s "here/$file"
    expect_status 0 "two sweeps: $file"
done
rm "here/weak-000$many.json"
scaling --sizes "1 $many" --weak 2 --strong $((2 * many)) --out here "${small[@]}"
expect_text "strong-0001.json is there: kept" "a sweep goes on where it was"

run python3 - "$root" <<'END'
import sys
sys.path.insert(0, sys.argv[1] + "/benchmarks")
import scaling_model as model

network = {"gpus_per_node": 4, "element_bytes": 4, "batch_norm_element_bytes": 8,
           "node": {"latency_us": 1, "bandwidth_gb_s": 1}, "cluster": {"latency_us": 10, "bandwidth_gb_s": 0.5}}

def close(a, b):
    assert abs(a - b) < 1e-12, (a, b)

close(model.all_reduce(1, 1000, network), 0)
close(model.all_reduce(4, 1000, network), 2 * 2 * 1e-6 + 2 * 3 / 4 * 1000 / 1e9)
close(model.all_reduce(8, 1000, network), 2 * 2 * 1e-6 + 2 * 3 / 4 * 1000 / 1e9 + 2 * 10e-6 + 2 * 1 / 2 * 250 / 0.5e9)
messages = {"nodes_s": 1.0, "exchanges": [{"elements": 125, "hidden_s": 0.0}, {"elements": 125, "hidden_s": 1.0}],
            "buckets": [{"elements": 250, "ready_s": 0.25}, {"elements": 250_000_000, "ready_s": 0.9}]}
exchange, bucket = model.all_reduce(4, 1000, network), model.all_reduce(4, 1e9, network)
total, exchanges, gradients = model.step_seconds(4, "global", 1.0, messages, network)
close(exchanges, exchange)  # the second hides
close(gradients, 0.9 + bucket - 1)
close(total, 1 + exchanges + gradients)
close(model.step_seconds(1, "global", 1.0, messages, network)[0], 1.0)
close(model.step_seconds(8, "none", 1.0, messages, network)[1], 0)
close(model.step_seconds(8, "node", 1.0, messages, network)[1], exchange)
END
expect_status 0 "the model by hand"
verdict
