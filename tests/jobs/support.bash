# shellcheck shell=bash
# What the tests of jobs/ share: a temporary folder, checks that name what failed, a verdict at the end.
# Exit codes: 0 passed, 1 failed, 77 skipped.
# shellcheck disable=SC2034  # what tests read
set -u

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
temporary=$(mktemp -d "${TMPDIR:-/tmp}/deeplab-jobs-XXXXXX")
failures=0
checks=0
cleanups=()

cleanup() {
    local command
    for command in "${cleanups[@]}"; do eval "$command" || true; done
    rm -rf "$temporary"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The build whose programs may be tried; those of the scripts under test are stubs.
built=${DEEPLAB_BUILD:-build}
[[ $built == /* ]] || built=$root/$built

# Nothing of the caller's environment may decide a test.
unset DEEPLAB_ROOT DEEPLAB_BUILD DEEPLAB_SITE DEEPLAB_LAUNCHER DEEPLAB_REQUEUE CUDA_VISIBLE_DEVICES
unset VOC_URL VOC_BYTES AUG_URL AUG_BYTES WEIGHTS_URL WEIGHTS_BYTES
for name in $(compgen -e); do
    case $name in SLURM_* | SBATCH_* | SRUN_* | OMPI_MCA_*) unset "$name" ;; esac
done

skip() {
    echo "skipped: $*"
    exit 77
}

# python_with "MODULE, …": prints the Python that has them (Debian's packages belong to the system's); fails if none has.
python_with() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -c "import $1" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

passed() { checks=$((checks + 1)); }
failed() {
    checks=$((checks + 1))
    failures=$((failures + 1))
    echo "FAILED: $*"
}

# run COMMAND…: leaves `status` and `output` (stdout and stderr together).
run() {
    status=0
    output=$("$@" 2>&1) || status=$?
}

expect_status() { # CODE WHAT
    if [[ $status == "$1" ]]; then passed; else failed "$2: exit code $status, not $1; it said: $output"; fi
}

expect_text() { # PART WHAT
    if [[ $output == *"$1"* ]]; then passed; else failed "$2: \"$1\" is not in: $output"; fi
}

expect_no_text() { # PART WHAT
    if [[ $output != *"$1"* ]]; then passed; else failed "$2: \"$1\" is in: $output"; fi
}

expect() { # WHAT COMMAND…
    local what=$1
    shift
    if "$@"; then passed; else failed "$what: $*"; fi
}

# Serves FOLDER on this machine, with the options of range_server.py; leaves `address`, and the requests in `$requests`.
server=
requests=$temporary/requests
stop_server() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    server=
}
start_server() { # FOLDER OPTION…
    stop_server
    cleanups+=(stop_server)
    rm -f "$temporary/port"
    : >"$requests"
    python3 "$root/tests/jobs/range_server.py" "$1" "$temporary/port" "$requests" "${@:2}" &
    server=$!
    for _ in $(seq 100); do
        [[ ! -f $temporary/port ]] || break
        sleep 0.05
    done
    address=http://127.0.0.1:$(<"$temporary/port")
}

verdict() {
    echo "${0##*/}: $checks checks, $failures failed"
    ((failures == 0 && checks > 0))
}
