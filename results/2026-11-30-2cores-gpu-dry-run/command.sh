#!/usr/bin/env bash
# The check of a GPU where there is none: with programs that do what programs should not, and from its archive.
# ARCHIVE: deeplab-bundle.tar.xz of a build with CUDA (target bundle-archive). ELSEWHERE: an empty folder.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
say() { printf '\n$ %s\n' "$*"; }
mkdir -p "$ELSEWHERE" && cd "$ELSEWHERE" || exit

# 1. --budget 60 beside programs that ignore SIGTERM, hide, and write without end, with the limits as they are.
export FAKE=$ELSEWHERE/fake PYTHON=$ELSEWHERE/bin/python3
mkdir -p "$FAKE" bin
for name in deeplab-bench deeplab-plan-check deeplab-train deeplab-make-shapes deeplab-pack gpu_tests cuda_tests gpu-planted-error mpirun python3; do
    ln -sf "$root/tests/jobs/fake_gpu_program.sh" "bin/$name"
done
left() { # of the fakes' processes
    local pid count=0
    while read -r pid; do ! grep -Eqs '^State:.*[A-Y] ' "/proc/$pid/status" || ((++count)); done <"$FAKE/processes"
    echo "$count processes of $(wc -l <"$FAKE/processes") are left"
}
sixty() { # NAME LINE=WHAT…
    say "gpu_check.sh all --budget 60: $1"
    rm -f "$FAKE"/*
    for pair in "${@:2}"; do echo "${pair#*=}" >"$FAKE/${pair%%=*}"; done
    local from=$EPOCHREALTIME
    "$root/benchmarks/gpu_check.sh" all --budget 60 --keep "$1.tar.xz" --bin bin
    echo "exit code $?, $(((${EPOCHREALTIME/[.,]/} - ${from/[.,]/}) / 1000)) ms"
    echo "the archive: $(stat -c %s "$1.tar.xz") bytes, $(tar -xOf "$1.tar.xz" gpu-check/verdicts.txt | grep -c ' [a-zA-Z]* .*[0-9]\.[0-9]') verdicts"
    sleep 1 && left
}
sixty all-hang smoke=ignores-term first_engines=ignores-term step_16=ignores-term
sixty mixed smoke=crashes first_engines=forks step_16=fills pytorch_eager=daemon fixtures=bare-daemon engines=talks curves=binary \
    layers_16=hangs step_15=many-files step_31=ignores-term

say "SIGKILL after 10 s"
rm -f "$FAKE"/* && echo forks >"$FAKE/smoke" && echo ignores-term >"$FAKE/first_engines"
"$root/benchmarks/gpu_check.sh" all --budget 60 --keep killed.tar.xz --bin bin &
sleep 10 && kill -KILL $! && wait $!
sleep 2 && left
ls killed.tar.xz*
tar -xOf killed.tar.xz gpu-check/verdicts.txt

# 2. The archive, unpacked in an empty folder, by a shell that knows nothing of the build.
[[ -n ${ARCHIVE:-} ]] || exit 0
say "tar -xf deeplab-bundle.tar.xz ($(stat -c %s "$ARCHIVE") bytes)"
mkdir -p unpacked && cd unpacked && tar -xf "$ARCHIVE" || exit
clean() {
    say "$*"
    env -i PATH=/usr/bin:/bin HOME="$PWD" "$@" 2>&1 | tail -n 25
    echo "exit code ${PIPESTATUS[0]}"
}
clean deeplab-bundle/benchmarks/gpu_check.sh all --budget 60 --keep kept.tar.xz --out out
tar -tf kept.tar.xz
for program in deeplab-bundle/bundle/bin/*; do clean "$program" --help | sed -n '2p;3p;$p'; done
clean deeplab-bundle/bundle/bin/gpu_tests
clean deeplab-bundle/bundle/bin/cuda_tests --gtest_filter='GpuConvolution.*'
clean deeplab-bundle/bundle/bin/gpu-planted-error memcheck
clean deeplab-bundle/bundle/bin/deeplab-plan-check current
clean python3 deeplab-bundle/benchmarks/pytorch_baseline.py --device cpu --backbone resnet18 --crop 33 --batch 1 2 --steps 2 --warmup 0
