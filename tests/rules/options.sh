#!/usr/bin/env bash
# Rule 4: CUDA, NCCL, oneDNN and MPI may each be absent (one of CUDA and oneDNN is there); ON fails when missing; the
# configuration says what the build will contain.
# usage: options.sh SOURCE_DIR CMAKE
set -uo pipefail
root=$1
cmake=$2
. "$(dirname "$0")/configure.sh"

configures "without CUDA, NCCL and MPI" 'MPI +no: switched off' -DDEEPLAB_CUDA=OFF -DDEEPLAB_MPI=OFF
refuses "a build without any backend" 'Neither CUDA nor oneDNN' -DDEEPLAB_CUDA=OFF -DDEEPLAB_ONEDNN=OFF
refuses "MPI=ON without MPI" 'DEEPLAB_MPI=ON, but it was not found: install' -DDEEPLAB_CUDA=OFF -DDEEPLAB_MPI=ON \
    -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON
refuses "ONEDNN=ON without oneDNN" 'DEEPLAB_ONEDNN=ON, but it was not found: install' -DDEEPLAB_CUDA=OFF \
    -DDEEPLAB_ONEDNN=ON -DCMAKE_DISABLE_FIND_PACKAGE_dnnl=ON
refuses "the CPU backend without OpenMP" 'needs OpenMP, and .* install its library' -DDEEPLAB_CUDA=OFF -DDEEPLAB_ONEDNN=ON \
    -DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON
refuses "NCCL=ON without CUDA" 'DEEPLAB_NCCL=ON, but it was not found: it needs the CUDA' -DDEEPLAB_CUDA=OFF -DDEEPLAB_NCCL=ON
refuses "FUZZ=ON without clang" 'DEEPLAB_FUZZ=ON needs clang' -DDEEPLAB_FUZZ=ON -DCMAKE_CXX_COMPILER=g++
refuses "an option that is none of AUTO, ON, OFF" 'DEEPLAB_MPI=maybe: it is AUTO, ON or OFF' -DDEEPLAB_MPI=maybe

# Warnings are errors for who changes the sources, not for users.
# flags "what" PATTERN STATUS options…: does PATTERN stand in the compiler's options (0: yes, 1: no)?
flags() {
    local what=$1 pattern=$2 wanted=$3 status=0
    shift 3
    configure -DDEEPLAB_CUDA=OFF -DDEEPLAB_MPI=OFF "$@" || { report 1 "$what: configures"; return; }
    grep -q -e "$pattern" "$work/build/compile_commands.json" || status=$?
    [ "$status" = "$wanted" ]
    report $? "$what"
}
flags "warnings are no errors by default" ' -Werror' 1
flags "DEEPLAB_WERROR=ON makes them errors" ' -Werror' 0 -DDEEPLAB_WERROR=ON
flags "the preset release leaves them warnings" ' -Werror' 1 --preset release
for preset in debug asan; do # tsan inherits it, fuzz and cuda-only need more than is everywhere
    flags "the preset $preset makes them errors" ' -Werror' 0 --preset "$preset"
done

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
