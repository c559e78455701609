#!/usr/bin/env bash
# Every library is taken from where a site says that it lies: CMAKE_PREFIX_PATH, and for cuDNN and NCCL the variables that
# installations and modules set; the same libraries in the system's folders come second. Also: which compiler nvcc uses for host
# code, and for which GPUs it compiles.
# usage: prefixes.sh SOURCE_DIR CMAKE
set -uo pipefail
root=$1
cmake=$2
# shellcheck source=configure.sh
. "$(dirname "$0")/configure.sh"
unset CMAKE_PREFIX_PATH CUDNN_ROOT CUDNN_PATH EBROOTCUDNN NCCL_ROOT NCCL_HOME EBROOTNCCL CUDAHOSTCXX CUDAARCHS

# ---- a prefix with every library of a build for CPUs: fronts of those that are installed here

prefix=$work/prefix
mkdir -p "$prefix/include" "$prefix/lib" "$prefix/bin"
configure -DDEEPLAB_CUDA=OFF -DDEEPLAB_ONEDNN=ON -DDEEPLAB_MPI=ON
report $? "configures with what is installed here"
cached() { sed -n "s/^$1:[A-Z]*=//p" "$work/build/CMakeCache.txt"; }

# packages that bring a configuration for CMake: one that passes on to the real one
packages=(fmt spdlog CLI11 nlohmann_json tomlplusplus dnnl)
for name in "${packages[@]}"; do
    folder=$(cached "${name}_DIR")
    mkdir -p "$prefix/lib/cmake/$name"
    for end in -config Config -config-version ConfigVersion; do
        if [ -e "$folder/$name$end.cmake" ]; then
            echo "include($folder/$name$end.cmake)" > "$prefix/lib/cmake/$name/$name$end.cmake"
        fi
    done
done
# libraries that CMake looks for by header and file
for header in zlib.h zconf.h jpeglib.h png.h pngconf.h; do
    for folder in /usr/include "/usr/include/$("${CXX:-c++}" -print-multiarch)" "${CONDA_PREFIX:-/usr}/include"; do
        if [ -e "$folder/$header" ]; then ln -sf "$folder/$header" "$prefix/include/$header"; fi
    done
done
for name in ZLIB JPEG PNG; do
    library=$(cached "${name}_LIBRARY_RELEASE")
    ln -s "$library" "$prefix/lib/$(basename "$library")"
done
# what asks a compiler's wrapper
ln -s "$(cached MPI_C_COMPILER)" "$prefix/bin/mpicc"
ln -s "$(cached MPIEXEC_EXECUTABLE)" "$prefix/bin/mpiexec"
printf '#!/bin/sh\nexec %s "$@"\n' "$(cached HDF5_C_COMPILER_EXECUTABLE)" > "$prefix/bin/h5cc"
chmod +x "$prefix/bin/h5cc"

variables=("${packages[@]/%/_DIR}" {ZLIB,JPEG,PNG}_LIBRARY_RELEASE MPI_C_COMPILER HDF5_C_COMPILER_EXECUTABLE)
# all_from_prefix "what": every library of the last configuration comes from the prefix.
all_from_prefix() {
    local variable strangers=
    for variable in "${variables[@]}"; do
        case $(cached "$variable") in "$prefix"/*) ;; *) strangers="$strangers $variable=$(cached "$variable")" ;; esac
    done
    [ -z "$strangers" ] || echo "not from the prefix:$strangers"
    [ -z "$strangers" ]
    report $? "takes all libraries from $1"
}
configure -DDEEPLAB_CUDA=OFF -DDEEPLAB_ONEDNN=ON -DDEEPLAB_MPI=ON "-DCMAKE_PREFIX_PATH=$prefix" &&
    all_from_prefix "-DCMAKE_PREFIX_PATH"
# As a module sets it; of another oneDNN than Debian's no OpenCL is asked.
sed -i 's/^/if(FALSE)\n/; $a endif()\nadd_library(DNNL::dnnl INTERFACE IMPORTED)' "$prefix/lib/cmake/dnnl/dnnl-config.cmake"
CMAKE_PREFIX_PATH=$prefix configure -DDEEPLAB_CUDA=OFF -DDEEPLAB_ONEDNN=ON -DDEEPLAB_MPI=ON \
    -DCMAKE_DISABLE_FIND_PACKAGE_OpenCL=ON
report $? "configures with another oneDNN, without OpenCL"
all_from_prefix "the environment's CMAKE_PREFIX_PATH"

# ---- CUDA: cuDNN and NCCL in folders of their own, with numbers that no real one has

command -v nvcc > /dev/null || { echo "skipped: no nvcc, so the CUDA part cannot be configured"; exit "$failed"; }
cudnn=$work/cudnn nccl=$work/nccl
mkdir -p "$cudnn/include" "$cudnn/lib" "$nccl/include" "$nccl/lib64"
touch "$cudnn/include/cudnn_graph.h" "$cudnn/lib/libcudnn.so.9" "$nccl/include/nccl.h" "$nccl/lib64/libnccl.so" # PyPI's has no libcudnn.so
printf '#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 98\n#define CUDNN_PATCHLEVEL 7\n' > "$cudnn/include/cudnn_version.h"

found() { # "what" options…: these two, and no others
    local what=$1
    shift
    again=1 configure -U 'CUDNN_*' -U 'NCCL_*' -DDEEPLAB_CUDA=ON -DDEEPLAB_ONEDNN=OFF -DDEEPLAB_MPI=OFF "$@" &&
        grep -q "cuDNN 9.98.7, $cudnn/lib/libcudnn.so.9" "$work/log" &&
        grep -q "NCCL communicator, $nccl/lib64/libnccl.so" "$work/log" &&
        [ "$(cached NCCL_INCLUDE_DIR)" = "$nccl/include" ]
    report $? "takes cuDNN and NCCL from $what"
}
compiler=$work/bin/other-c++ # nvcc's host code is compiled by it, too
mkdir "$work/bin"
ln -s "$(command -v "${CXX:-c++}")" "$compiler"
configure -DDEEPLAB_CUDA=ON -DDEEPLAB_ONEDNN=OFF "-DCMAKE_CXX_COMPILER=$compiler" && grep -q "host code by $compiler," "$work/log"
report $? "nvcc's host code is compiled by CMAKE_CXX_COMPILER"
grep -q 'for 80-real, 90,' "$work/log"
report $? "kernels are for 8.x and 9.0, with PTX for newer GPUs"
again=1 configure -DCMAKE_CUDA_ARCHITECTURES=89 && grep -q 'for 89,' "$work/log"
report $? "CMAKE_CUDA_ARCHITECTURES decides"

elsewhere=$work/elsewhere # a variable of the environment that names another place comes second
mkdir "$elsewhere"
for pair in "CUDNN_ROOT NCCL_ROOT" "CUDNN_PATH NCCL_HOME" "EBROOTCUDNN EBROOTNCCL"; do
    read -r one other <<< "$pair"
    export "$one=$elsewhere" "$other=$elsewhere"
    found "-D$one and -D$other" "-D$one=$cudnn" "-D$other=$nccl"
    export "$one=$cudnn" "$other=$nccl"
    found "the environment's $one and $other" -U "$one" -U "$other"
    unset "$one" "$other"
    again=1 configure -U "$one" -U "$other"
done
found "CMAKE_PREFIX_PATH" "-DCMAKE_PREFIX_PATH=$cudnn;$nccl"

# A compiler that says that it is newer than any that nvcc knows: nvcc's own choice then.
printf '#!/bin/sh\nexec %s -U__GNUC__ -D__GNUC__=99 "$@"\n' "$(command -v g++)" > "$work/bin/new-c++"
chmod +x "$work/bin/new-c++"
configure -DDEEPLAB_CUDA=ON -DDEEPLAB_ONEDNN=OFF "-DCMAKE_CXX_COMPILER=$work/bin/new-c++" &&
    grep -q "nvcc does not take $work/bin/new-c++" "$work/log" && grep -q "host code by nvcc's choice" "$work/log"
report $? "a compiler that nvcc refuses is not given to it"
configure -DDEEPLAB_CUDA=ON -DDEEPLAB_ONEDNN=OFF "-DCMAKE_CUDA_HOST_COMPILER=$compiler" && grep -q "host code by $compiler," "$work/log"
report $? "CMAKE_CUDA_HOST_COMPILER decides"
exit "$failed"
