#!/usr/bin/env bash
# Every shell script passes shellcheck, and ends at a variable that is not set: a misspelt name would be an empty path.
# Exit 77: skipped.
# usage: scripts.sh SOURCE_DIR
set -euo pipefail
root=$1
command -v shellcheck > /dev/null || { echo "skipped: no shellcheck"; exit 77; }
. "$(dirname "$0")/sources.sh"
cd "$root"
mapfile -t files < <({ sources '*.sh' '*.sbatch' '*.bash'; if [ -e .ci/run ]; then echo .ci/run; fi; } | sort -u)
[ "${#files[@]}" -gt 0 ] || { echo "no scripts found in $root"; exit 1; }
failed=0
# The parts in jobs/lib name each other as from there.
shellcheck -x -P SCRIPTDIR -P jobs/lib "${files[@]}" || failed=1
for file in "${files[@]}"; do
    case $file in
        jobs/site/*) ;; # what clusters need: modules use variables that are not set
        results/*) ;;   # what was typed
        *)
            grep -qE '^set -[a-z]*u' "$file" || {
                echo "FAILED  $file has no \"set -u\" (set -euo pipefail) — a misspelt variable would be empty — add it"
                failed=1
            }
            ;;
    esac
done
echo "${#files[@]} scripts"
exit "$failed"
