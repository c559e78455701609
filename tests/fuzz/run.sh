#!/usr/bin/env bash
# Builds the fuzz targets and runs each of them for a while. `--help` explains.
set -uo pipefail

usage() {
    cat <<'END'
usage: tests/fuzz/run.sh [--check] [--seconds N] [--seed N] [--keep DIR] [TARGET…]

Builds the targets with clang, makes their seeds, runs each target (all, if none is named) for N seconds (10), as many at
once as there are processors, and ends with a table. Exit code 0: no finding; 1: a finding, whose input and the command
that repeats it are printed; 2: there is no clang with its libFuzzer here.

  --check      only say whether there is such a clang
  --seconds N  of each target
  --seed N     the same mutations every time (default: others each time)
  --keep DIR   keep what was found to be worth keeping in DIR/TARGET and start from it the next time
  --help       this text

variables: DEEPLAB_BUILD  the folder of the optimised build (default: build/ in the checkout); the targets' build stands
                          beside it with the suffix -fuzz, the findings in its folder findings/
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=../../jobs/lib/setup.sh
source "$root/jobs/lib/setup.sh"

seconds=10 seed=0 keep='' check=0 targets=()
while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --check) check=1 ;;
        --seconds | --seed | --keep)
            (($# > 1)) || fail 2 "$1 has no value — nothing was run — see --help"
            printf -v "${1#--}" %s "$2"
            shift
            ;;
        -*) fail 2 "unknown option $1 — there are --check, --seconds, --seed and --keep — see --help" ;;
        *) targets+=("$1") ;;
    esac
    shift
done
[[ $seconds =~ ^[1-9][0-9]*$ && $seed =~ ^[0-9]+$ ]] ||
    fail 2 "--seconds $seconds, --seed $seed: a number is needed — nothing was run — see --help"

build=$(build_folder)-fuzz
compiler=$(command -v clang++ || command -v clang++-14) ||
    fail 2 "no clang++ — libFuzzer comes with it — install clang and libclang-rt-dev"
echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    "$compiler" -fsanitize=fuzzer,address -x c++ - -o /dev/null 2>/dev/null ||
    fail 2 "$compiler has no libFuzzer — the targets need it — install libclang-rt-dev, of the same version"
((!check)) || exit 0
{
    configure "$build" -DCMAKE_BUILD_TYPE=Sanitize "-DCMAKE_CXX_COMPILER=$compiler" \
        "-DCMAKE_C_COMPILER=${compiler/clang++/clang}" -DDEEPLAB_FUZZ=ON -DDEEPLAB_NATIVE=OFF -DDEEPLAB_WERROR=ON &&
        cmake --build "$build" --parallel "$(processors)"
} || fail 1 "the fuzz targets were not built (above)"

if ((${#targets[@]} == 0)); then
    for program in "$build"/fuzz/*; do targets+=("$(basename "$program")"); done
fi
for target in "${targets[@]}"; do
    [[ -x $build/fuzz/$target ]] ||
        fail 2 "there is no target $target — nothing was run — the targets: $(cd "$build/fuzz" && echo *)"
done

# Debian's Pillow belongs to Debian's Python.
python=$(command -v /usr/bin/python3 || command -v python3)

# Files of the targets stay in memory where there is a place for them.
work=$(mktemp -d -p "$([[ -w /dev/shm ]] && echo /dev/shm || echo /tmp)" deeplab-fuzz-XXXXXX)
# Each target in a process group of its own, so that an interrupted script leaves none behind.
set -m
# shellcheck disable=SC2317  # the trap calls it
clean_up() {
    local job
    for job in $(jobs -rp); do kill -- "-$job" 2>/dev/null; done
    rm -rf "$work"
}
trap clean_up EXIT
export TMPDIR=$work
export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=$root/tests/harness/lsan.supp:print_suppressions=0

# Bounds of memory (MiB: one allocation, all of it), of seconds for one input, and of an input's bytes: allocations may
# grow with the input, by deflate's factor of 1032, so the input must be small enough to tell. The seconds are the clock's,
# on a machine that may be busy.
limits=(-malloc_limit_mb=512 -rss_limit_mb=2048 -timeout=60 -report_slow_units=60 -max_len=16384)

# make_corpus TARGET: its seeds and its dictionary, in $work.
make_corpus() {
    "$build/fuzz/$1" --corpus "$work/$1" "$work/$1.dict" || return 1
    case $1 in
        jpeg | png) "$python" "$root/tests/fuzz/pil_seeds.py" "$1" "$work/$1" || (($? == 77)) ;;
    esac
}

# fuzz TARGET: for the given seconds; what it prints goes to $log.
fuzz() {
    local folders=("$work/$1") dictionary=()
    if [[ -n $keep ]]; then
        mkdir -p "$keep/$1"
        folders=("$keep/$1" "$work/$1")
    fi
    [[ ! -s $work/$1.dict ]] || dictionary=("-dict=$work/$1.dict")
    mkdir -p "$build/findings"
    "$build/fuzz/$1" "${limits[@]}" "${dictionary[@]}" "-max_total_time=$seconds" "-seed=$seed" -print_final_stats=1 \
        "-artifact_prefix=$build/findings/$1-" "${folders[@]}"
}

# Each runs in one thread.
for target in "${targets[@]}"; do
    while (($(jobs -rp | wc -l) >= $(processors))); do wait -n; done
    { { make_corpus "$target" && fuzz "$target"; } >"$work/$target.log" 2>&1 || : >"$work/$target.failed"; } &
done
wait

table=$(printf '%-12s %12s %8s %9s %9s' target executions exec/s coverage findings)
failed=0
for target in "${targets[@]}"; do
    log=$work/$target.log
    found=0
    if [[ -e $work/$target.failed ]]; then
        found=1 failed=1
        printf '\n=== %s\n' "$target"
        grep -vE '^#[0-9]+' "$log" | tail -n 60
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        if [[ -n $input ]]; then
            say "to repeat: LSAN_OPTIONS=$LSAN_OPTIONS $build/fuzz/$target ${limits[*]} $input"
        fi
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    table+=$(printf '\n%-12s %12s %8s %9s %9s' "$target" "${executions:-?}" "${speed:-?}" "${coverage:-?}" "$found")
done
printf '\n%s\n' "$table"
exit "$failed"
