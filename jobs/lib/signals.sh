# shellcheck shell=bash
# Runs a program beside traps: a signal to the script reaches the ranks, and their exit code comes back.
# shellcheck disable=SC2154
set -u

# Somebody wants the job to stop: USR1 (the time limit is near, or preemption where the cluster sends it), TERM (scancel,
# preemption), INT (a terminal). The ranks get USR1: mpirun kills them when it gets TERM itself, srun gives up on a second INT.
watch_signals() {
    child='' asked_to_stop=0
    apart=() # what takes `command` out of a terminal's reach
    trap 'asked_to_stop=1; [[ -z $child ]] || kill -USR1 "$child" 2>/dev/null || true' USR1 TERM INT
}

# Runs `command` and leaves its exit code in `status`. The ranks write a checkpoint on USR1 and end with 75.
run_command() {
    local waited
    if ((asked_to_stop)); then
        status=75
        return
    fi
    "${apart[@]}" "${command[@]}" &
    child=$!
    while :; do
        waited=0
        wait "$child" || waited=$?
        # A trap interrupts wait: the program still runs, or its code is still to be had.
        if ((waited <= 128)) || ! kill -0 "$child" 2>/dev/null; then break; fi
    done
    status=0
    wait "$child" 2>/dev/null || status=$?
    ((status != 127)) || status=$waited
    child=
}
