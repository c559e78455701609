#!/usr/bin/env bash
# On a machine without apt both scripts say what is missing, show the conda line, and end with 2; nothing is written.
# usage: no_apt.sh SOURCE_DIR
set -euo pipefail
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Neither apt nor a compiler: only what a script needs to get that far.
mkdir "$work/bin"
for tool in bash dirname mkdir nproc printf mktemp rm tail; do ln -s "$(command -v "$tool")" "$work/bin/$tool"; done
failed=0

expect_refusal() { # SCRIPT options…
    local status=0
    env -i PATH="$work/bin" HOME="$work" DEEPLAB_BUILD="$work/build" "$@" >"$work/log" 2>&1 || status=$?
    if ((status != 2)) || ! grep -q 'conda env create -f ' "$work/log" || ! grep -q 'missing: cmake' "$work/log" ||
        [[ -e $work/build ]]; then
        echo "FAILED  $* ended with $status:"
        cat "$work/log"
        failed=1
    else
        echo "ok      $*"
    fi
}

expect_refusal "$root/jobs/quickstart.sh" --out "$work/out"
expect_refusal "$root/tests/run.sh" --quick
exit "$failed"
