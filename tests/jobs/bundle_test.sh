#!/bin/bash
# The bundle from another folder: it needs nothing of this machine but glibc (and, with CUDA, NVIDIA's libraries).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"

command -v patchelf >/dev/null || skip "no patchelf"
[[ -e $built/CMakeCache.txt ]] || skip "no build"
cmake --build "$built" --target bundle >"$temporary/log" 2>&1 || { cat "$temporary/log"; failed "the target bundle"; verdict; }
mv "$built/bundle" "$temporary/elsewhere"
bundle=$temporary/elsewhere
cd "$temporary"

# Each library is the bundle's own.
foreign=
while read -r file; do
    foreign+=$(ldd "$file" 2>/dev/null | awk -v own="$bundle/" -v file="${file#"$bundle"/}" '
        $2 == "=>" && index($3, own) != 1 &&
            $1 !~ /^(lib(c|m|dl|rt|pthread|util|resolv|cuda|cudart|cudnn.*|nccl|nvrtc.*)\.so|ld-linux)/ { print file ": " $0 }')
done < <(find "$bundle/libexec" "$bundle/lib" "$bundle/openmpi" -type f \( -name '*.so*' -o -perm -u+x \))
expect "libraries from elsewhere:$foreign" test -z "$foreign"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
run env -u LD_LIBRARY_PATH "$bundle/bin/deeplab-make-shapes" --out data --train 4 --val 2 --size 64x48
expect_status 0 "one rank without a launcher"
if [[ -d $bundle/openmpi ]]; then
    run env -u LD_LIBRARY_PATH "$bundle/bin/mpirun" --bind-to none --oversubscribe -np 2 "$bundle/bin/deeplab-pack" \
        --voc data --classes data/classes.toml --split train --out shards
    expect_status 0 "two ranks with the bundle's launcher"
    expect_text "packed 4 images" "packing"
    run "$bundle/bin/deeplab-pack" verify shards
    expect_status 0 "verifying"
fi
run "$bundle/bin/deeplab-train" --frobnicate
expect_status 2 "exit codes pass through"
expect "notices" test -s "$bundle/notices/deeplab-hpc"

# The archive: refused where it would end with an illegal instruction elsewhere; else whole, and on its own.
if grep -q '^DEEPLAB_NATIVE:BOOL=ON' "$built/CMakeCache.txt"; then
    run cmake --build "$built" --target bundle-archive
    expect "an archive of a native build is refused" test "$status" -ne 0
    expect_text "configure with -DDEEPLAB_NATIVE=OFF" "an archive of a native build"
fi
make_archive() { # FOLDER
    cmake -D ARCHIVE="$1/deeplab-bundle.tar.xz" -D OUT="$1/deeplab-bundle" -D NATIVE=OFF -D LEVEL=1 -D SOURCE_DIR="$root" \
        -D PROGRAMS="$built/bin/deeplab-bench;$built/bin/deeplab-make-shapes" -P "$root/cmake/BundleArchive.cmake"
}
run make_archive "$temporary/one"
expect_status 0 "an archive"
mkdir "$temporary/empty" && cd "$temporary/empty"
tar -xf "$temporary/one/deeplab-bundle.tar.xz"
for file in README.md LICENSE benchmarks/pytorch_baseline.py tests/golden/deeplab_torch.py tests/golden/ops.h5 \
    tests/golden/names.txt tests/cuda/device-properties/h200.json jobs/configs/quickstart_cpu.toml; do
    expect "the archive has $file" test -s "deeplab-bundle/$file"
done
expect "symbols are stripped" test -z "$(nm deeplab-bundle/bundle/libexec/deeplab-bench 2>/dev/null)"
run env -i PATH=/usr/bin:/bin HOME="$PWD" deeplab-bundle/benchmarks/gpu_check.sh all --budget 60 --keep kept.tar.xz
expect_status 4 "the check without a GPU"
expect_text "there is no GPU that the programs can use" "the check without a GPU"
run tar -xOf kept.tar.xz gpu-check/verdicts.txt
expect_text "CUDA backend: " "the check's archive"
verdict
