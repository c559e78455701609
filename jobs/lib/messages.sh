# shellcheck shell=bash
# How the job scripts speak, on stderr.
set -u

say() {
    local name=${0##*/}
    [[ $name != slurm_script ]] || name=${SLURM_JOB_NAME:-$name} # sbatch's copy
    printf '%s: %s\n' "$name" "$*" >&2
}

# fail CODE MESSAGE; 2: wrong usage, 3: bad input data, 4: device or communication failure, as the programs have them.
fail() {
    local code=$1
    shift
    say "$*"
    exit "$code"
}

require_number() { # NAME VALUE LEAST
    if [[ ! $2 =~ ^[0-9]{1,6}$ ]] || ((10#$2 < $3)); then
        fail 2 "$1=\"$2\" is not a number of at least $3 — the ranks cannot be placed — correct it or leave it out"
    fi
}
