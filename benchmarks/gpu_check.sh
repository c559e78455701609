#!/usr/bin/env bash
# Everything that only a GPU can show. `--help` explains.
# shellcheck disable=SC2317  # check calls the functions
set -uo pipefail

usage() {
    cat <<'END'
usage: benchmarks/gpu_check.sh correct|bench [--bin DIR] [--out DIR]

Runs the checks (correct) or the measurements (bench) on this machine's first GPU, each in under nine minutes, ends with a
short table, and writes everything else to DIR. Wants bash, the programs, and for the comparison a python3 with PyTorch; on a
machine without packages, the bundle's programs (cmake --build BUILD --target bundle):

  --bin DIR   where the programs are (default: build/bundle/bin, else build/bin of this checkout)
  --out DIR   logs, tables, JSON, the cache of engines (default: gpu-check)

Exit code 0: all lines passed; 1: some failed; 2: wrong usage; 4: there is no GPU that the programs can use.
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
what='' bin='' out=gpu-check
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        correct | bench) what=$1 ;;
        --bin) bin=${2:?--bin takes a folder} && shift ;;
        --out) out=${2:?--out takes a folder} && shift ;;
        *) echo "gpu_check.sh: unknown argument $1 — see --help" >&2 && exit 2 ;;
    esac
    shift
done
[[ -n $what ]] || { usage >&2 && exit 2; }
if [[ -z $bin ]]; then
    bin=$root/build/bundle/bin
    [[ -x $bin/deeplab-train ]] || bin=$root/build/bin
fi
[[ -x $bin/deeplab-train ]] || { echo "gpu_check.sh: no programs in $bin — build them, or give --bin" >&2 && exit 2; }
bin=$(cd "$bin" && pwd)
mkdir -p "$out" && out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DEEPLAB_SOURCE=$root DEEPLAB_TUNING_CACHE=$out/convolutions.txt
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

names=() verdicts=() seconds=() notes=()
failed=0
# check NAME COMMAND…: passes with exit code 0, is skipped with 77; its last line stands in the table.
check() {
    local name=$1 began=$SECONDS status=0
    shift
    echo "=== $name"
    "$@" >"$out/$name.log" 2>&1 || status=$?
    names+=("$name") seconds+=("$((SECONDS - began))")
    notes+=("$(grep -v '^ *$' "$out/$name.log" | tail -n 1 | cut -c1-70)")
    case $status in
        0) verdicts+=(passed) ;;
        77) verdicts+=(skipped) ;;
        *) verdicts+=("FAILED ($status)") && failed=1 && tail -n 15 "$out/$name.log" ;;
    esac
}

table() {
    printf '\n%-28s %-12s %5s  %s\n' check result s 'last line'
    local i
    for i in "${!names[@]}"; do printf '%-28s %-12s %5d  %s\n' "${names[$i]}" "${verdicts[$i]}" "${seconds[$i]}" "${notes[$i]}"; done
}

# The programs' own word on whether there is a GPU.
require_gpu() {
    local said status=0
    said=$("$bin/deeplab-bench" step --device cuda --backbone resnet18 --crop 33 --batch 2 --steps 1 2>&1) || status=$?
    ((status == 0)) && return
    printf '%s\n' "$said" | tail -n 5 >&2
    echo "gpu_check.sh: no step could be taken on a GPU (exit code $status) — nothing was checked" >&2
    exit 4
}

train() { # RUN options…: 20 steps of a small network on generated data
    local run=$1
    shift
    "$bin/deeplab-train" --config "$root/jobs/configs/quickstart_cpu.toml" --data "$work/shards" --out "$run" \
        --set train.iterations=20 --set train.log_every=1 --set train.eval_every=0 --set optimizer.warmup=0 \
        --set optimizer.lr=0.001 "$@"
}

make_data() {
    "$bin/deeplab-make-shapes" --out "$work/data" --train 64 --val 8 >/dev/null 2>&1 &&
        for split in train val; do
            "$bin/deeplab-pack" --voc "$work/data" --classes "$work/data/classes.toml" --split "$split" --out "$work/shards" || return
        done
}

# compare A B LIMIT: the largest relative difference of two runs' losses.
compare() {
    python3 - "$@" <<'END'
import json, sys
a, b = ([json.loads(l) for l in open(f"{run}/metrics.jsonl") if '"loss"' in l] for run in sys.argv[1:3])
limit = float(sys.argv[3])
worst = max(abs(x["loss"] / y["loss"] - 1) for x, y in zip(a, b, strict=True))
print(f"{len(a)} losses, largest relative difference {worst:.1e}, limit {limit:.0e}")
sys.exit(worst > limit or len(a) < 20)
END
}

curve() { # NAME LIMIT options…: the losses of a run against those on the CPU
    local name=$1 limit=$2
    shift 2
    train "$work/$name" --device cuda "$@" && compare "$work/$name" "$work/cpu" "$limit"
}

ranks() { # N: several ranks on one GPU, sums through host memory
    "$bin/mpirun" -np "$1" --bind-to none --oversubscribe "$bin/deeplab-train" \
        --config "$root/jobs/configs/quickstart_cpu.toml" --data "$work/shards" --out "$work/ranks$1" --device cuda --comm mpi \
        --set train.iterations=20 --set train.log_every=1 --set train.eval_every=0 --set optimizer.warmup=0 \
        --set optimizer.lr=0.001 --set train.global_batch=12 || return
    (($1 == 1)) || compare "$work/ranks$1" "$work/ranks1" 2e-3 # one rank is what the others are compared with
}

same_bits() { # the state after 20 steps, as one graph and launch by launch
    local a b
    a=$(train "$work/graph" --device cuda | grep -o 'state [0-9a-f]*')
    b=$(train "$work/launches" --device cuda --no-graph | grep -o 'state [0-9a-f]*')
    echo "graph: $a, launches: $b"
    [[ -n $a && $a == "$b" ]]
}

properties() { # the GPU as cuDNN describes it, which is what tests/cuda/device-properties has for others
    local file=$out/device-properties.json
    sed '/^convolution pass/,$d' "$out/device.log" >"$file"
    python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(d["deviceName"], len(d), "properties")' "$file" &&
        "$bin/deeplab-plan-check" "$file" "$root/jobs/configs" # read back: the same plans without the device
}

sanitized() {
    command -v compute-sanitizer >/dev/null || { echo "skipped: no compute-sanitizer" && return 77; }
    local program=$bin/gpu_tests
    [[ ! -x $bin/../libexec/gpu_tests ]] || program=$bin/../libexec/gpu_tests
    compute-sanitizer --error-exitcode 9 "$program" --gtest_filter='CudaExecutor.*:-*Graphs*'
}

correct() {
    make_data >"$out/data.log" 2>&1 || { tail "$out/data.log" && exit 2; }
    check device "$bin/deeplab-plan-check" current "$root/jobs/configs"
    check properties properties
    check fixtures "$bin/gpu_tests"
    check convolutions "$bin/cuda_tests"
    check cpu_curve train "$work/cpu" --device cpu
    check fp32_curve curve fp32 1e-3
    check bf16_curve curve bf16 5e-2 --set train.precision=bf16
    check nccl_one_rank curve nccl 1e-3 --comm nccl
    check graph_and_launches same_bits
    if [[ -x $bin/mpirun ]]; then
        check one_rank_staged ranks 1
        check two_ranks_staged ranks 2
        check three_ranks_staged ranks 3
    fi
    check compute_sanitizer sanitized
}

bench() {
    local batch
    for batch in 15 16 31 32; do
        check "step_$batch" "$bin/deeplab-bench" step --device cuda --precision bf16 --batch "$batch" --steps 30 --warmup 5 \
            --json "$out/step_$batch.json" --csv "$out/step_$batch.csv"
    done
    check layers_16 "$bin/deeplab-bench" step --device cuda --precision bf16 --batch 16 --steps 10 --layers --csv "$out/layers_16.csv"
    check cached_engines "$bin/deeplab-bench" step --device cuda --precision bf16 --batch 16 --steps 2 --warmup 1
    check pytorch python3 "$root/benchmarks/pytorch_baseline.py" --batch 15 16 31 32 --compile 16 31 --json "$out/pytorch.jsonl"
}

require_gpu
"$what"
table | tee "$out/table.txt"
exit "$failed"
