#!/usr/bin/env bash
# Sources are formatted as .clang-format says; other versions of clang-format differ in detail. Exit 77: skipped.
# usage: format.sh SOURCE_DIR [--fix]
set -euo pipefail
root=$1
command -v clang-format-14 > /dev/null || { echo "skipped: no clang-format-14"; exit 77; }
. "$(dirname "$0")/sources.sh"
mapfile -t files < <(sources '*.h' '*.cpp' '*.cu' '*.cuh')
[ "${#files[@]}" -gt 0 ] || { echo "no sources found in $root"; exit 1; }
cd "$root"
if [ "${2:-}" = --fix ]; then
    clang-format-14 -i "${files[@]}"
else
    clang-format-14 --dry-run --Werror "${files[@]}" || { echo "to repair: tests/rules/format.sh . --fix"; exit 1; }
fi
echo "${#files[@]} files"
