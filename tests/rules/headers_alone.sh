#!/usr/bin/env bash
# Rule 1: a header under include/ needs the standard library only, and compiles alone.
# usage: headers_alone.sh SOURCE_DIR COMPILER
set -euo pipefail
root=$1
compiler=$2
failed=0

# The standard's headers have neither a dot nor a slash in their names.
if grep -rnE '#include <[^>]*[./][^>]*>' "$root/include"; then
    echo "these headers (above) include more than the standard library"
    failed=1
fi

# shellcheck disable=SC2317  # called by xargs
compile_alone() {
    # Twice: also proves #pragma once.
    printf '#include "%s"\n#include "%s"\n' "$1" "$1" |
        "$compiler" -std=c++20 -Wall -Wextra -Wpedantic -Wshadow -Werror -fsyntax-only -I "$root/include" -x c++ - ||
        { echo "does not compile alone: $1"; return 1; }
}
export -f compile_alone
export root compiler
mapfile -t headers < <(cd "$root/include" && find . -name '*.h' | sed 's|^\./||' | sort)
[ "${#headers[@]}" -gt 0 ] || { echo "no header found under $root/include"; exit 1; }
printf '%s\n' "${headers[@]}" | xargs -P 2 -I{} bash -c 'compile_alone {}' || failed=1
echo "${#headers[@]} headers"
exit "$failed"
