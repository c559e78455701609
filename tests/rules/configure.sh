# shellcheck shell=bash
# Sourced, with $root (the sources) and $cmake set: configurations that are expected to work, or to be refused. Sets $work, a
# temporary folder, and $failed, for the exit code.
# shellcheck disable=SC2034
set -u
: "${root:?}" "${cmake:?}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# configure options…: in $work/build; the log is $work/log. With again=1 on top of the last configuration.
configure() {
    if [ "${again:-0}" = 0 ]; then rm -rf "$work/build"; fi
    "$cmake" -S "$root" -B "$work/build" -G Ninja -DDEEPLAB_TESTS=OFF -DDEEPLAB_BENCHMARKS=OFF "$@" > "$work/log" 2>&1
}

# Says what was expected, and shows the log when that did not happen.
report() {
    if [ "$1" = 0 ]; then echo "ok      $2"; return; fi
    echo "FAILED  $2"
    tail -n 25 "$work/log"
    failed=1
}

# configures "what" "line of the log" options…
configures() {
    local what=$1 text=$2
    shift 2
    configure "$@" && grep -qE "$text" "$work/log"
    report $? "configures $what and says so"
}

refuses() {
    local what=$1 text=$2
    shift 2
    # CMake wraps long messages.
    ! configure "$@" && tr -s ' \n' ' ' < "$work/log" | grep -qE "$text"
    report $? "refuses $what and says why"
}
