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
verdict
