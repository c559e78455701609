#!/usr/bin/env bash
# On a machine without apt both scripts say what is missing, show the line for conda (and for dnf, where that is), and end with 2;
# nothing is written.
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

echo '#!/bin/sh' >"$work/bin/dnf"
chmod +x "$work/bin/dnf"
expect_refusal "$root/jobs/quickstart.sh" --out "$work/out"
grep -q 'as root: dnf install gcc-c++ cmake ninja-build openmpi-devel .*tomlplusplus-devel' "$work/log" || {
    echo "FAILED  with dnf its line is not shown:"
    cat "$work/log"
    failed=1
}
exit "$failed"
