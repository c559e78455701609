#!/usr/bin/env bash
# Rule 4: CUDA, NCCL, oneDNN and MPI may each be absent (one of CUDA and oneDNN is there); ON fails when missing; the
# configuration says what the build will contain.
# usage: options.sh SOURCE_DIR CMAKE
set -uo pipefail
root=$1
cmake=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

configure() {
    rm -rf "$work/build"
    "$cmake" -S "$root" -B "$work/build" -G Ninja -DDEEPLAB_TESTS=OFF -DDEEPLAB_BENCHMARKS=OFF "$@" > "$work/log" 2>&1
}

# Says what was expected, and shows the log when that did not happen.
report() {
    if [ "$1" = 0 ]; then echo "ok      $2"; return; fi
    echo "FAILED  $2"
    tail -n 25 "$work/log"
    failed=1
}

# configures "what" "line of the log" options…
configures() {
    local what=$1 text=$2
    shift 2
    configure "$@" && grep -qE "$text" "$work/log"
    report $? "configures $what and says so"
}

refuses() {
    local what=$1 text=$2
    shift 2
    # CMake wraps long messages.
    ! configure "$@" && tr -s ' \n' ' ' < "$work/log" | grep -qE "$text"
    report $? "refuses $what and says why"
}

configures "without CUDA, NCCL and MPI" 'MPI +no: switched off' -DDEEPLAB_CUDA=OFF -DDEEPLAB_MPI=OFF
refuses "a build without any backend" 'Neither CUDA nor oneDNN' -DDEEPLAB_CUDA=OFF -DDEEPLAB_ONEDNN=OFF
refuses "MPI=ON without MPI" 'DEEPLAB_MPI=ON, but it was not found: install' -DDEEPLAB_CUDA=OFF -DDEEPLAB_MPI=ON \
    -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON
refuses "ONEDNN=ON without oneDNN" 'DEEPLAB_ONEDNN=ON, but it was not found: install' -DDEEPLAB_CUDA=OFF \
    -DDEEPLAB_ONEDNN=ON -DCMAKE_DISABLE_FIND_PACKAGE_dnnl=ON
refuses "NCCL=ON without CUDA" 'DEEPLAB_NCCL=ON, but it was not found: it needs the CUDA' -DDEEPLAB_CUDA=OFF -DDEEPLAB_NCCL=ON
refuses "FUZZ=ON without clang" 'DEEPLAB_FUZZ=ON needs clang' -DDEEPLAB_FUZZ=ON -DCMAKE_CXX_COMPILER=g++
refuses "an option that is none of AUTO, ON, OFF" 'DEEPLAB_MPI=maybe: it is AUTO, ON or OFF' -DDEEPLAB_MPI=maybe

if [ -e /usr/include/dnnl.hpp ]; then
    refuses "Debian's oneDNN without OpenCL, without a fatal error of its own" 'install ocl-icd-opencl-dev' \
        -DDEEPLAB_CUDA=OFF -DDEEPLAB_ONEDNN=ON -DCMAKE_DISABLE_FIND_PACKAGE_OpenCL=ON
fi

if command -v nvcc > /dev/null; then
    configures "CUDA without oneDNN" 'CUDA +yes: .*cuDNN [0-9]' -DDEEPLAB_CUDA=ON -DDEEPLAB_ONEDNN=OFF
    refuses "CUDA=ON without cuDNN" 'DEEPLAB_CUDA=ON, but it was not found: nvcc is there, cuDNN' -DDEEPLAB_CUDA=ON \
        -DCUDNN_INCLUDE_DIR="$work"
else
    echo "skipped: no nvcc, so CUDA=ON cannot be configured"
fi

# PATH without the folders that hold nvcc.
path=
IFS=: read -ra folders <<< "$PATH"
for folder in "${folders[@]}"; do
    if [ ! -e "$folder/nvcc" ]; then path=${path:+$path:}$folder; fi
done
PATH=$path
export PATH
unset CUDACXX CUDA_PATH CUDA_HOME CUDAToolkit_ROOT
if command -v c++ > /dev/null && command -v ninja > /dev/null; then
    refuses "CUDA=ON without nvcc" 'DEEPLAB_CUDA=ON, but it was not found: install the CUDA Toolkit' -DDEEPLAB_CUDA=ON
    configures "CUDA=AUTO without nvcc" 'CUDA +no: not found' -DDEEPLAB_MPI=OFF
else
    echo "skipped: nvcc shares its folder with the compiler, it cannot be hidden"
fi
exit "$failed"
