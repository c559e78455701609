#!/usr/bin/env bash
# Every shell script passes shellcheck. Exit 77: skipped.
# usage: scripts.sh SOURCE_DIR
set -euo pipefail
root=$1
command -v shellcheck > /dev/null || { echo "skipped: no shellcheck"; exit 77; }
. "$(dirname "$0")/sources.sh"
cd "$root"
mapfile -t files < <({ sources '*.sh' '*.sbatch'; if [ -e .ci/run ]; then echo .ci/run; fi; } | sort -u)
[ "${#files[@]}" -gt 0 ] || { echo "no scripts found in $root"; exit 1; }
shellcheck -x -P SCRIPTDIR "${files[@]}"
echo "${#files[@]} scripts"
