#!/usr/bin/env bash
# Builds and tests everything. `--help` explains.
# shellcheck disable=SC2317  # stage calls the functions
set -uo pipefail

usage() {
    cat <<'END'
usage: tests/run.sh [--quick] [--tidy]

Installs what it needs (apt, as root or with sudo), builds and runs the tests, and ends with a table of the stages. Exit
code 0: everything passed; 1: something failed.

  --quick   optimised build and the unit tests of one process: under three minutes on two cores
  --tidy    clang-tidy on all sources too (minutes)
  --help    this text

variables: DEEPLAB_BUILD       the folder of the optimised build (default: build/ in the checkout); the sanitizers' build
                               and the others stand beside it, with a suffix
           DEEPLAB_NO_INSTALL  1: do not install packages
           DEEPLAB_TEST_DATA   a folder with VOCdevkit/: tests on real images run too
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=../jobs/lib/setup.sh
source "$root/jobs/lib/setup.sh"

quick=0 tidy=0
while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --quick) quick=1 ;;
        --tidy) tidy=1 ;;
        *) fail 2 "unknown argument $1 — the tests take --quick and --tidy — see --help" ;;
    esac
    shift
done

build=$(build_folder)
jobs=$(processors)
names=() times=() states=() summaries=() reasons=()
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Why a stage failed, from its output: what each failed test printed (its end), or else the last lines.
why_it_failed() {
    awk -v most=60 '
        function told(  i) {
            if (failing) print lines[0]
            for (i = count > most ? count - most : 1; i < count; ++i) print substr(lines[i], 1, 400)
            failing = count = 0
        }
        /^ *(Start +[0-9]+: |[0-9]+\/[0-9]+ Test +#|[0-9]+% tests passed)/ { told() }
        /^ *[0-9]+\/[0-9]+ Test +#.*\*\*\*/ && !/\*\*\*Skipped/ { failing = any = 1 }
        failing { lines[count++] = $0 }
        { last[NR % most] = $0 }
        END {
            told()
            if (!any) for (i = NR > most ? NR - most + 1 : 1; i <= NR; ++i) print substr(last[i % most], 1, 400)
        }' "$log"
}

# stage NAME COMMAND…: runs it, remembers its time and state, what ctest said, and why it failed.
stage() {
    local name=$1 began=$SECONDS status=0
    shift
    printf '\n=== %s\n' "$name"
    "$@" 2>&1 | tee "$log" || status=1
    names+=("$name") times+=("$((SECONDS - began))")
    local told
    told=$(grep -E '% tests passed' "$log" | tail -n 1)
    [[ -z $told ]] || summaries+=("$name: $told")
    if ((status == 0)); then
        states+=(ok)
    else
        states+=(FAILED)
        reasons+=("$name: $(why_it_failed)")
        failed=1
    fi
    return "$status"
}

finish() {
    local i
    # What failed stands at the end once more: of a long log often only the end is kept.
    for i in "${!reasons[@]}"; do printf '\n=== why it failed: %s\n' "${reasons[$i]}"; done
    printf '\n%-34s %8s  %s\n' stage seconds result
    for i in "${!names[@]}"; do printf '%-34s %8d  %s\n' "${names[$i]}" "${times[$i]}" "${states[$i]}"; done
    for i in "${!summaries[@]}"; do echo "${summaries[$i]}"; done
    for i in "${!lacking[@]}"; do echo "left out, for want of a package: ${lacking[$i]}"; done
    ((failed == 0)) && echo "everything passed" || echo "something failed"
    exit "$failed"
}

configure_and_build() { # FOLDER "TARGET…" options…; who changes the sources sees what the compiler warns of
    local folder=$1 targets
    read -ra targets <<<"$2"
    shift 2
    configure "$folder" -DDEEPLAB_WERROR=ON "$@" && cmake --build "$folder" --parallel "$jobs" --target "${targets[@]}"
}

run_ctest() { # FOLDER options…; one test more than processors, since many wait for programs or clocks
    local folder=$1
    shift
    ctest --test-dir "$folder" --output-on-failure --no-tests=error --parallel "$((jobs + 1))" "$@"
}

run_tidy() {
    local files
    mapfile -t files < <(find "$root/src" "$root/preprocess" -name '*.cpp' ! -name 'no_*.cpp' | sort)
    printf '%s\n' "${files[@]}" | xargs -P "$jobs" -n 2 clang-tidy-14 -p "$build" --quiet
}

allow_root
export OMP_WAIT_POLICY=passive

kinds=(build test)
((quick)) || kinds+=(check)
if [[ ${DEEPLAB_NO_INSTALL:-0} == 1 ]]; then
    say "DEEPLAB_NO_INSTALL=1: nothing is installed"
else
    # Not in a stage: where packages are missing its exit code 2 is the answer.
    install_packages "${kinds[@]}"
fi

release=(-DCMAKE_BUILD_TYPE=Release -DDEEPLAB_TESTS=ON -DDEEPLAB_BENCHMARKS=ON "-DDEEPLAB_CUDA=$(cuda_option)"
    -DDEEPLAB_ONEDNN=ON -DDEEPLAB_MPI=ON)
if ((quick)); then
    # Folders whose tests start no programs.
    folders=(base graph model math exec ops cpu cuda_kernel io data train)
    stage "release build of the unit tests" configure_and_build "$build" "${folders[*]/%/_tests}" "${release[@]}" || finish
    stage "release: unit tests" run_ctest "$build" -E Slow -R "^($(IFS='|' && echo "${folders[*]}"))\\."
    finish
fi

stage "release build" configure_and_build "$build" all "${release[@]}" || finish
stage "release: tests" run_ctest "$build" -LE rules
stage "rules" run_ctest "$build" -L rules
if ((tidy)); then
    if command -v clang-tidy-14 >/dev/null; then
        stage "clang-tidy" run_tidy
    else
        say "no clang-tidy-14: clang-tidy is left out; other versions warn of other things"
    fi
fi

sanitized=(-DCMAKE_BUILD_TYPE=Sanitize "-DDEEPLAB_SANITIZE=address,undefined" -DDEEPLAB_NATIVE=OFF -DDEEPLAB_CUDA=OFF
    -DDEEPLAB_TESTS=ON -DDEEPLAB_BENCHMARKS=OFF -DDEEPLAB_ONEDNN=ON -DDEEPLAB_MPI=ON)
# intercept_tls_get_addr=0: up to GCC 13 LeakSanitizer takes some addresses of libraries' thread-locals for a header of old
# glibc's, and crashes reading what it says (google/sanitizers issue 1322): every second run under load with Open MPI's.
sanitizer_options=detect_stack_use_after_return=1:intercept_tls_get_addr=0
# lsan.supp knows leaks of libraries by frames that only the slow way to unwind finds. The programs of the stand-in call none
# of those libraries, and start ten times as fast without it.
export ASAN_OPTIONS=fast_unwind_on_malloc=0:$sanitizer_options
export UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=$root/tests/harness/lsan.supp:print_suppressions=0
export GTEST_FILTER='-*Slow*' # the programs that run under mpirun: ctest's labels do not reach into them
if stage "address + undefined: build" configure_and_build "$build-asan" all "${sanitized[@]}"; then
    stand_in='^cuda_(kernel|executor|timing)\.'
    # One and three ranks of it walk the code of two.
    stage "address + undefined: tests" run_ctest "$build-asan" -LE 'slow|rules|jobs' -E "Slow|train_mpi\.[13]|$stand_in"
    ASAN_OPTIONS=$sanitizer_options
    # Ops and golden networks: the kernels' own cases and the CPU's golden tests walk the same code.
    stage "address + undefined: stand-in" run_ctest "$build-asan" -LE slow -R "$stand_in" -E 'Slow|executor\.(All/OpCases|Fixtures)'
fi
unset ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS GTEST_FILTER

# Threads: the loader, the writer of checkpoints, the communicators. Libraries are not instrumented; OpenMP is not here.
threads="thread_tests thread_mpi_tests"
run_thread_tests() {
    "$build-tsan/tests/thread_tests" && mpirun --oversubscribe --bind-to none -np 2 "$build-tsan/tests/thread_mpi_tests"
}
export TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1
# Of the whole trainer only what writes checkpoints beside steps.
export GTEST_FILTER='Loader*:Keeper*:Communicator*:Self*:TrainerTest.Checkpoints*:TrainerTest.ADamaged*:TrainerRanks.AStop*'
if stage "thread: build" configure_and_build "$build-tsan" "$threads" "${sanitized[@]}" -DDEEPLAB_SANITIZE=thread; then
    stage "thread: tests" run_thread_tests
fi
unset TSAN_OPTIONS GTEST_FILTER

if "$root/tests/fuzz/run.sh" --check; then
    stage "fuzz" "$root/tests/fuzz/run.sh" --seconds 6 --seed 1
else
    say "the readers are not fuzzed here (above)"
fi

variant=(-DCMAKE_BUILD_TYPE=Release -DDEEPLAB_TESTS=OFF -DDEEPLAB_BENCHMARKS=OFF)
stage "build without MPI" configure_and_build "$build-no-mpi" all "${variant[@]}" -DDEEPLAB_MPI=OFF -DDEEPLAB_CUDA=OFF
if command -v nvcc >/dev/null; then
    stage "build of the CUDA part alone" configure_and_build "$build-cuda-only" all "${variant[@]}" -DDEEPLAB_CUDA=ON \
        -DDEEPLAB_ONEDNN=OFF
    # Without a GPU: what cuDNN plans for devices that are described, and that the programs say what is missing.
    if stage "CUDA part alone: build of its tests" configure_and_build "$build-cuda-only" \
        "cuda_tests comm_mpi_tests tools_tests" -DDEEPLAB_TESTS=ON; then
        stage "CUDA part alone: tests" run_ctest "$build-cuda-only" -R '^(cuda|comm_mpi)\.|DeviceThatIsNotThere'
    fi
else
    say "no nvcc: the CUDA part is not compiled here"
fi
finish
