#!/usr/bin/env bash
# No kernel keeps registers or arrays in local memory, on any architecture that the program is built for, unless
# no_spills.txt says why. Exit 77: skipped.
# usage: no_spills.sh SOURCE_DIR
set -euo pipefail
root=$1
command -v nvcc > /dev/null || { echo "skipped: no nvcc"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# shellcheck disable=SC2317  # called by xargs
compile() { # FILE: what ptxas says of its kernels, to $work
    local name launcher=()
    name=$(basename "$1")
    if command -v ccache > /dev/null; then launcher=(ccache); fi
    "${launcher[@]}" nvcc -std=c++20 -O3 -Xptxas -v -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 \
        -I "$root/include" -I "$root/src/cuda" -I "$root/src/cuda/kernels" -c "$1" -o "$work/$name.o" > "$work/$name.log" 2>&1 ||
        { cat "$work/$name.log"; echo "does not compile: $1"; return 1; }
}
export -f compile
export root work
find "$root/src/cuda" -name '*.cu' -print0 | sort -z | xargs -0 -P 2 -I{} bash -c 'compile {}'

# "sm_90 kernel(types): STACK STORES LOADS", in bytes, for every kernel.
sed -nE "s/.*Compiling entry function '([^']*)' for '([^']*)'.*/\2 \1/p
    s/^ *([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads.*/ \1 \2 \3/p" "$work"/*.log |
    awk '/^sm_/ { kernel = $0; next } kernel != "" { print kernel " :" $0; kernel = "" }' | c++filt > "$work/kernels"
for architecture in sm_80 sm_90; do
    echo "$(grep -c "^$architecture " "$work/kernels" || true) kernels for $architecture"
    grep -q "^$architecture " "$work/kernels" || { echo "ptxas said nothing of $architecture"; exit 1; }
done

failed=0
grep -vE ' : 0 0 0$' "$work/kernels" > "$work/local" || true
grep -vE '^(#|$)' "$root/tests/rules/no_spills.txt" > "$work/exceptions" || true
if grep -vE -f "$work/exceptions" "$work/local"; then
    echo "these kernels (above) use local memory (bytes of stack frame, spill stores, spill loads), and no_spills.txt does not say why"
    failed=1
fi
while IFS= read -r pattern; do
    grep -qE -- "$pattern" "$work/local" || { echo "no_spills.txt excuses what needs no excuse: $pattern"; failed=1; }
done < "$work/exceptions"
exit "$failed"
