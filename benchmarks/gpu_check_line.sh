#!/usr/bin/env bash
# gpu_check_line.sh LINE: one line of gpu_check.sh, which starts it in a session and an empty folder of its own, with check_root,
# check_bin, check_results (what stands there is kept) and check_data (shared by the lines, not kept). Exit code 0: passed, 77:
# skipped, 4 of the line "device": no GPU, any other: failed. The last line printed is the one that is shown.
# shellcheck disable=SC2317  # the functions are called by the line's name
set -uo pipefail
: "${check_root:?gpu_check.sh sets it}" "${check_bin:?}" "${check_results:?}" "${check_data:?}"
bin=$check_bin root=$check_root results=$check_results data=$check_data
line=$1 python=${PYTHON:-python3}
export DEEPLAB_TUNING_CACHE=$results/convolutions.txt DEEPLAB_TUNING_LOG=$results/tuning_$line.txt
failed=0
# said PATTERN: the last line printed so far that matches, once more. (No pipe behind a program: what it leaves behind would
# hold that open.)
said() {
    local text
    text=$(tail -c 4M "$results/logs/$line.log" | grep -aE "$1" | tail -n 1) && echo "$text"
}
# try COMMAND…: the others are run all the same.
try() {
    local status=0
    "$@" || status=$?
    ((status == 0)) && return
    echo "FAILED ($status): $*"
    ((failed)) || failed=$status
}
skip() {
    echo "skipped: $*"
    exit 77
}
# tool NAME: where CUDA's is.
tool() { PATH=$PATH:/usr/local/cuda/bin command -v "$1"; }

bench() { "$bin/deeplab-bench" "$@"; }
first=(--engines first) # what runs at once: the line is not about which engine is fast
r101=(step --device cuda --precision bf16 --backbone resnet101 --crop 513)
figure() { sed -n "s/.*\"$2\": *\([0-9.e+-]*\).*/\1/p" "$results/$1" 2>/dev/null | tail -n 1; } # FILE KEY

line_device() {
    {
        uname -srm
        nproc
        ldd --version | head -n 1
        "$python" --version
        mpirun --version | head -n 1
    } >"$results/machine.txt" 2>&1
    ! tool nvidia-smi >/dev/null || timeout -k 1 5 nvidia-smi -q >"$results/nvidia-smi.txt" 2>&1
    if [[ ! -x $bin/deeplab-plan-check ]]; then # a build without CUDA: it says so itself
        bench step --device cuda --backbone resnet18 --crop 33 --batch 2 --steps 1 --warmup 0
        return
    fi
    local from=${EPOCHREALTIME/[.,]/} facts status=0
    facts=$("$bin/deeplab-plan-check" current 2>&1 >"$results/device.json") || status=$?
    echo "$facts; the first program took $(((${EPOCHREALTIME/[.,]/} - from) / 1000)) ms"
    return "$status"
}

line_smoke() {
    local precision graph
    for precision in fp32 bf16; do
        for graph in --no-graph ''; do
            try bench step --device cuda --precision "$precision" --backbone resnet18 --crop 33 --batch 2 --steps 4 --warmup 0 \
                --whole "${first[@]}" ${graph:+"$graph"}
        done
    done
    try bench startup --device cuda --precision bf16 --backbone resnet18 --crop 33 --batch 2 "${first[@]}" \
        --json "$results/startup.json"
    ((failed)) || said '^step: '
}

whole_step() { # options…: its time is shown
    bench "${r101[@]}" --whole --json "$results/$line.json" "$@" && said '^step: '
}
line_first_engines() { whole_step --batch 16 --steps 20 --warmup 3 "${first[@]}"; }
step() { whole_step --batch "$1" --steps 30 --warmup 5; } # BATCH
line_step_15() { step 15; }
line_step_16() { step 16; }
line_step_31() { step 31; }

pytorch() { # MODE options…: its step of batch 16 and the ratio to ours
    local mode=$1 ours theirs file
    shift
    "$python" -c 'import torch' || skip "no PyTorch in $python"
    "$python" "$root/benchmarks/pytorch_baseline.py" "$@" --json "$results/pytorch.jsonl" || return
    theirs=$(grep "\"mode\": \"$mode\"" "$results/pytorch.jsonl" | sed -n 's/.*"step_ms": *\([0-9.e+-]*\).*/\1/p' | tail -n 1)
    [[ -n $theirs ]] || { echo "PyTorch gave no time" && return 1; }
    for file in step_16.json first_engines.json; do
        ours=$(figure "$file" step_resnet101_513_batch16_ranks1_bf16_ms)
        [[ -z $ours ]] || break
    done
    [[ -n $ours ]] || { echo "PyTorch $mode $theirs ms; ours was not measured" && return; }
    awk -v a="$theirs" -v b="$ours" -v f="${file%.json}" -v m="$mode" \
        'BEGIN { printf "ratio %.3f: PyTorch %s %.2f ms, ours %.2f ms (%s)\n", a / b, m, a, b, f }'
}
line_pytorch_eager() { pytorch eager --batch 16 --steps 20 --warmup 5; }
line_pytorch_compile() { pytorch compile --batch --compile 16 --steps 20 --warmup 5; }

tests() { # PROGRAM options…: passes only where there were tests
    "$bin/$1" "${@:2}" && ! said 'skipped: no GPU' && said '^\[  PASSED  \] [1-9]'
}
line_fixtures() { tests gpu_tests '--gtest_filter=-*OpCases*:*OpFamilies*'; }
line_ops() { tests gpu_tests '--gtest_filter=*OpCases*:*OpFamilies*'; }
line_engines() {
    DEEPLAB_TEST_SECONDS=45 tests cuda_tests '--gtest_filter=GpuConvolution.*'
    local status=$?
    said '^engines checked'
    return "$status"
}

make_data() {
    [[ ! -f $data/shards/val.json ]] || return 0
    "$bin/deeplab-make-shapes" --out "$data/shapes" --train 64 --val 8 || return
    local split
    for split in train val; do
        "$bin/deeplab-pack" --voc "$data/shapes" --classes "$data/shapes/classes.toml" --split "$split" --out "$data/shards" || return
    done
}
small=(--config "$root/jobs/configs/quickstart_cpu.toml" --data "$data/shards" --set train.iterations=20
    --set train.log_every=1 --set train.eval_every=0 --set optimizer.warmup=0 --set optimizer.lr=0.001)
train() { # RUN options…: 20 steps of a small network on generated data
    "$bin/deeplab-train" "${small[@]}" --out "$data/$1" "${@:2}"
}
losses() { sed -n 's/.*"loss": *\([0-9.e+-]*\).*/\1/p' "$data/$1/metrics.jsonl"; }
# compare A B LIMIT: the largest relative difference of two runs' losses. A wrong gradient shows in the first five, which decide;
# rounding grows from step to step (fp32 on a CPU, 2 ranks beside one: below 1e-4 to step 6, 8e-3 at step 16), so that the
# others need only be near.
compare() {
    paste <(losses "$1") <(losses "$2") | awk -v limit="$3" -v near=1e-1 -v what="$1 beside $2" '
        NF != 2 || !($2 > 0) { bad = 1; exit }
        { d = $1 / $2 - 1; d = d < 0 ? -d : d }
        NR <= 5 && (d > first || d != d) { first = d }
        d > worst || d != d { worst = d }
        END {
            printf "%s: first 5 losses differ by %.1e (limit %.0e), all %d by %.1e (%.0e)\n", what, first, limit, NR, worst, near
            exit bad || NR < 20 || !(first <= limit) || !(worst <= near)
        }'
}
curve() { # NAME LIMIT options…: the losses of a run beside those on the CPU
    train "$1" --device cuda "${first[@]}" "${@:3}" && compare "$1" cpu "$2"
}
same_bits() { # the state after 20 steps, as one graph and launch by launch
    local a b
    train graph --device cuda "${first[@]}" >graph.txt 2>&1
    train launches --device cuda "${first[@]}" --no-graph >launches.txt 2>&1
    cat graph.txt launches.txt
    a=$(grep -o 'state [0-9a-f]*' graph.txt)
    b=$(grep -o 'state [0-9a-f]*' launches.txt)
    echo "graph: $a, launches: $b"
    [[ -n $a && $a == "$b" ]]
}
line_curves() {
    make_data && train cpu --device cpu || return
    try curve fp32 1e-3
    try curve bf16 5e-2 --set train.precision=bf16
    try same_bits
    try curve nccl 1e-3 --comm nccl
}

line_layers_16() {
    bench "${r101[@]}" --batch 16 --steps 5 --layers --csv "$results/$line.csv" || return
    said '^engines: 0 timed' || { echo "engines were timed again: $(said '^engines: ')" && return 1; }
}

kernel_table() { # CSV of ncu: kernels of one name as one row, longest first
    "$python" - "$1" <<'END'
import csv, sys
columns = ("gpu__time_duration.sum", "dram__bytes.sum", "dram__throughput.avg.pct_of_peak_sustained_elapsed",
           "sm__throughput.avg.pct_of_peak_sustained_elapsed", "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed")
groups, launches, everything = {}, 0, 0.0
for row in csv.DictReader(open(sys.argv[1], newline="")):
    try:
        time, size, *percents = (float(row[c].replace(",", "")) for c in columns)
    except (KeyError, ValueError, AttributeError):
        continue  # the row of units, a metric that this GPU does not have
    sums = groups.setdefault(row["Kernel Name"].split("(")[0][-90:], [0, 0.0, 0.0, 0.0, 0.0, 0.0])
    for i, value in enumerate((1, time, size, *(p * time for p in percents))):
        sums[i] += value
    launches, everything = launches + 1, everything + time
print(f"{'us':>10} {'launches':>8} {'MB':>10} {'dram%':>6} {'sm%':>6} {'tensor%':>7}  kernel")
for name, (count, time, size, *percents) in sorted(groups.items(), key=lambda g: -g[1][1]):
    print(f"{time / 1e3:10.1f} {count:8} {size / 1e6:10.1f} " + " ".join(f"{p / time:6.1f}" for p in percents) + f"   {name}")
print(f"{launches} launches of {len(groups)} kernels, {everything / 1e6:.2f} ms")
END
}

# All kernels of one step that is launched one by one; what they reach, by name, longest first.
line_kernels() {
    local ncu
    ncu=$(tool ncu) || skip "no ncu"
    "$ncu" --clock-control none --target-processes all --csv --page raw --print-units base --log-file raw.csv --metrics \
"gpu__time_duration.sum,dram__bytes.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed,\
sm__throughput.avg.pct_of_peak_sustained_elapsed,sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed" \
        "$bin/deeplab-bench" "${r101[@]}" --batch 4 --steps 1 --warmup 0 --whole --no-graph "${first[@]}"
    local status=$?
    grep '^"' raw.csv >"$results/kernels.csv"
    kernel_table "$results/kernels.csv" >"$results/kernels.txt" && head -n 60 "$results/kernels.txt"
    ((status == 0)) && grep -q '^[0-9]* launches' "$results/kernels.txt" && tail -n 1 "$results/kernels.txt"
}

line_sanitizer() {
    local sanitizer names tool
    sanitizer=$(tool compute-sanitizer) || skip "no compute-sanitizer"
    # Own kernels alone (they are in namespace deeplab): cuDNN's are NVIDIA's to check, and slow to.
    names=--kernel-name
    "$sanitizer" --help >help.txt 2>&1
    grep -q -e "$names" help.txt || names=--kernel-regex
    check() { "$sanitizer" --tool "$1" "$names" kns=deeplab --target-processes all --error-exitcode 9 "${@:2}"; }
    for tool in memcheck racecheck; do
        check "$tool" "$bin/gpu-planted-error" "$tool" >planted.log 2>&1
        local status=$?
        grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' planted.log
        ((status == 9)) || { cat planted.log && echo "$tool did not report the planted error ($status)" && failed=1; }
    done
    for tool in memcheck racecheck; do
        try check "$tool" "$bin/gpu_tests" --gtest_filter='CudaExecutor.TakesTheCpusSteps'
        try check "$tool" "$bin/gpu_tests" --gtest_filter='CudaExecutor.TakesTheEmulatedBf16Steps'
    done
}

ranks() { # N: several ranks on one GPU
    "$mpirun" -np "$1" --bind-to none --oversubscribe "$bin/deeplab-train" "${small[@]}" --out "$data/ranks$1" --device cuda \
        --comm mpi "${first[@]}" --set train.global_batch=12 || return
    (($1 == 1)) || compare "ranks$1" ranks1 1e-3 # one rank is what the others are compared with
}
line_ranks() {
    local n
    mpirun=$bin/mpirun
    [[ -x $mpirun ]] || mpirun=$(command -v mpirun) || skip "no mpirun"
    make_data || return
    for n in 1 2 3; do try ranks "$n"; done
}

line_plans() { "$bin/deeplab-plan-check" "$results/device.json" "$root/jobs/configs"; }

"line_$line" || exit
exit "$failed"
