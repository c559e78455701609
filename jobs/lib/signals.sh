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

# The states of PID's children, a letter each (Z: has ended, and was not asked for its code).
children_states() { # PID
    local children=() child rest
    read -rd '' -a children < <(cat "/proc/$1/task/"*/children 2>/dev/null)
    for child in "${children[@]}"; do
        rest=$(cat "/proc/$child/stat" 2>/dev/null) || continue
        rest=${rest##*) }
        printf %s "${rest:0:1}"
    done
}

# Seconds that mpirun may go on after the last process it started.
launcher_patience=60

# mpirun can wait for itself for ever after its ranks have ended: seen with Open MPI 4.1 and PMIx 4.2, where a rank was killed as
# it started. The job would keep its nodes to its time limit.
end_launcher_without_ranks() { # PID
    local had_ranks=0 alone=0 pause='' states
    trap '[[ -z $pause ]] || kill "$pause" 2>/dev/null; exit' TERM
    while kill -0 "$1" 2>/dev/null; do
        states=$(children_states "$1")
        [[ -z $states ]] || had_ranks=1
        if ((!had_ranks)) || [[ $states == *[!ZX]* ]]; then alone=0; else ((++alone)); fi
        if ((alone > launcher_patience)); then
            say "the ranks have ended and mpirun has not, for $launcher_patience s: it is ended with code 137"
            kill -KILL "$1" 2>/dev/null
            return
        fi
        sleep 1 >/dev/null 2>&1 &
        pause=$!
        wait "$pause"
    done
}

# Runs `command` and leaves its exit code in `status`. The ranks write a checkpoint on USR1 and end with 75.
run_command() {
    local waited guard=''
    if ((asked_to_stop)); then
        status=75
        return
    fi
    "${apart[@]}" "${command[@]}" &
    child=$!
    case ${command[0]##*/} in
        mpirun | mpiexec)
            end_launcher_without_ranks "$child" &
            guard=$!
            ;;
    esac
    while :; do
        waited=0
        wait "$child" || waited=$?
        # A trap interrupts wait: the program still runs, or its code is still to be had.
        if ((waited <= 128)) || ! kill -0 "$child" 2>/dev/null; then break; fi
    done
    status=0
    wait "$child" 2>/dev/null || status=$?
    ((status != 127)) || status=$waited
    if [[ -n $guard ]]; then
        kill "$guard" 2>/dev/null || true
        wait "$guard" 2>/dev/null || true
    fi
    child=
}
