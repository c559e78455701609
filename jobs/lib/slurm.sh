# shellcheck shell=bash
# What the job scripts share. Sourced with `root` (the checkout, or an installation's share/deeplab-hpc) set; jobs/README.md has
# the variables a user may set.

: "${root:?the checkout, set by the script that sources this}"

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

# take_options ARGUMENTS: --help, --dry-run, --stage and --unstage are ours, all else goes into program_options; `--` ends
# ours. The caller defines usage().
take_options() {
    dry_run=0
    stage=''
    unstage=0
    script_arguments=("$@")
    program_options=()
    while (($#)); do
        case $1 in
            -h | --help)
                usage
                exit 0
                ;;
            --dry-run) dry_run=1 ;;
            --stage)
                [[ $# -gt 1 && -n $2 ]] || fail 2 "--stage lacks its folder — the shards would be copied nowhere — write" \
                    "--stage DIR, a folder on the nodes' own disks"
                stage=$2
                shift
                ;;
            --stage=*) stage=${1#*=} ;;
            --unstage) unstage=1 ;;
            --)
                shift
                program_options+=("$@")
                return
                ;;
            *) program_options+=("$1") ;;
        esac
        shift
    done
}

# option_value NAME: the value of an option among program_options, the last if it is repeated; empty if it is not there.
option_value() {
    local option previous='' value=''
    for option in "${program_options[@]}"; do
        [[ $previous != "$1" ]] || value=$option
        [[ $option != "$1="* ]] || value=${option#*=}
        previous=$option
    done
    printf '%s' "$value"
}

has_option() { # NAME
    local option
    for option in "${program_options[@]}"; do
        [[ $option != "$1" && $option != "$1="* ]] || return 0
    done
    return 1
}

# Sources the site file: a path, or NAME for jobs/site/NAME.sh.
load_site() {
    [[ -n ${DEEPLAB_SITE:-} ]] || return 0
    local file=$DEEPLAB_SITE status=0
    [[ -f $file ]] || file=$root/jobs/site/$DEEPLAB_SITE.sh
    [[ -f $file ]] || fail 2 "DEEPLAB_SITE=$DEEPLAB_SITE is neither a file nor a name in $root/jobs/site — the job would run" \
        "without the site's modules and network settings — set it to the path of a site file, or unset it"
    [[ $file == */* ]] || file=./$file # source would look along PATH
    set +eu # functions such as `module` use unset variables
    # shellcheck disable=SC1090
    source "$file"
    status=$?
    set -eu
    ((status == 0)) || fail 2 "the site file $file ended with $status — the job would run half prepared — correct it," \
        "or end it with \`true\` if that is meant"
}

# program_path NAME: in DEEPLAB_BUILD (relative: to the checkout), else where cmake --install put it, else in the checkout's build.
program_path() {
    local build=${DEEPLAB_BUILD:-build}
    if [[ -z ${DEEPLAB_BUILD:-} && -f $root/jobs/lib/programs ]]; then
        realpath -m "$root/$(<"$root/jobs/lib/programs")/$1"
        return
    fi
    [[ $build == /* ]] || build=$root/$build
    printf '%s/bin/%s' "$build" "$1"
}

require_program() {
    [[ -x $1 ]] || fail 2 "the program $1 is missing — there is nothing to run — build it (README.md), or set" \
        "DEEPLAB_BUILD to the folder of a finished build"
}

# Open MPI refuses to start for root otherwise (containers, test machines).
allow_root() {
    if ((EUID == 0)); then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
}

require_number() { # NAME VALUE LEAST
    if [[ ! $2 =~ ^[0-9]{1,6}$ ]] || ((10#$2 < $3)); then
        fail 2 "$1=\"$2\" is not a number of at least $3 — the ranks cannot be placed — correct it or leave it out"
    fi
}

# The job's shape from Slurm's variables: the tasks that were asked for, else one per GPU, else one per node; the cores of
# a node divided by its tasks. The first node speaks for all.
job_shape() {
    nodes=${SLURM_JOB_NUM_NODES:-${SLURM_NNODES:-1}}
    gpus=${SLURM_GPUS_ON_NODE:-0}
    local cores=${SLURM_CPUS_ON_NODE:-0} share
    require_number SLURM_JOB_NUM_NODES "$nodes" 1
    require_number SLURM_GPUS_ON_NODE "$gpus" 0
    require_number SLURM_CPUS_ON_NODE "$cores" 0
    if [[ -n ${SLURM_NTASKS_PER_NODE:-} ]]; then
        tasks_per_node=$SLURM_NTASKS_PER_NODE
        require_number SLURM_NTASKS_PER_NODE "$tasks_per_node" 1
        tasks=$((nodes * tasks_per_node))
        share=$((cores / tasks_per_node))
    elif [[ -n ${SLURM_NTASKS:-} ]]; then
        tasks_per_node= # Slurm's own distribution
        tasks=$SLURM_NTASKS
        require_number SLURM_NTASKS "$tasks" 1
        share=$((cores * nodes / tasks))
    else
        tasks_per_node=$((gpus > 0 ? gpus : 1))
        tasks=$((nodes * tasks_per_node))
        share=$((cores / tasks_per_node))
        ((cores == 0 || share > 0)) || fail 2 "the job has $cores cores and $gpus GPUs on a node — each GPU needs a rank and" \
            "each rank a core — submit with --exclusive, or with --ntasks-per-node=$gpus --cpus-per-task=CORES"
    fi
    cpus_per_task=${SLURM_CPUS_PER_TASK:-$((share > 0 ? share : 1))}
}

# place_ranks: fills `launch`, what starts the ranks, from the launcher and the job's shape.
place_ranks() {
    read -ra launcher <<<"${DEEPLAB_LAUNCHER:-srun --mpi=pmix}"
    launch=("${launcher[@]}")
    case ${launcher[0]##*/} in
        srun)
            # srun of Slurm 22.05 and later does not take over the job's --cpus-per-task.
            launch+=("--nodes=$nodes" "--ntasks=$tasks" "--cpus-per-task=$cpus_per_task")
            [[ -z $tasks_per_node ]] || launch+=("--ntasks-per-node=$tasks_per_node")
            # A step that asks for no GPUs gets none in an exclusive job. No --gpu-bind: every rank sees all of the node's.
            if ((gpus > 0)) && [[ -z ${SLURM_GPUS_PER_TASK:-} ]]; then launch+=("--gpus-per-node=$gpus"); fi
            # --kill-on-bad-exit=1 kills the other ranks when the first ends with 75, and the exit code becomes 143.
            launch+=(--kill-on-bad-exit=0 --wait=30)
            ;;
        mpirun | mpiexec)
            launch+=(-np "$tasks")
            [[ -z $tasks_per_node ]] || launch+=(--map-by "ppr:$tasks_per_node:node")
            # Its default ties a rank to one core; unbound ranks divide the node's cores among themselves.
            launch+=(--bind-to none)
            # mpirun starts its daemons by srun, which reads this.
            if ((gpus > 0)) && [[ -z ${SLURM_GPUS_PER_TASK:-} ]]; then export SLURM_GPUS_PER_NODE=$gpus; fi
            ;;
        *)
            fail 2 "DEEPLAB_LAUNCHER=\"$DEEPLAB_LAUNCHER\" starts with neither srun nor mpirun — the flags that place the ranks" \
                "are unknown — use \"srun --mpi=pmix\" or mpirun, with further flags behind"
            ;;
    esac
}

print_command() {
    printf '%q ' "${command[@]}"
    printf '\n'
}

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

# job_field NAME: a field of Slurm's description of this job.
job_field() { tr ' ' '\n' <<<"$job_description" | sed -n "s/^$1=//p" | head -n 1; }
describe_job() { job_description=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null || true); }

# The job's time limit becomes a time budget: a second way to stop in time, if the signal is late or lost. DEEPLAB_TIME_MARGIN:
# seconds that are left for the checkpoint.
add_time_budget() {
    ! has_option --time-budget || return 0
    local end margin=${DEEPLAB_TIME_MARGIN:-120} left
    require_number DEEPLAB_TIME_MARGIN "$margin" 0
    end=${SLURM_JOB_END_TIME:-$(date -d "$(job_field EndTime)" +%s 2>/dev/null || true)}
    [[ $end =~ ^[0-9]+$ ]] || return 0 # no limit
    left=$((end - $(date +%s)))
    # No more than half of a short job goes to a margin that nobody chose.
    if ((left > (${DEEPLAB_TIME_MARGIN:+1}0 ? margin : 2 * margin))); then left=$((left - margin)); else left=$((left / 2)); fi
    ((left > 0)) || left=1
    program_options+=(--time-budget "$((left / 60)).$(printf '%02d' $((left % 60 * 100 / 60)))")
}

# When a node dies the ranks may end before Slurm knows why; a job that ended by itself would not be requeued for the node.
await_dead_node() {
    local limit
    ! timeout 20 srun --overlap --mpi=none "--nodes=$nodes" "--ntasks=$nodes" --ntasks-per-node=1 --immediate=15 true \
        >/dev/null 2>&1 || return 0
    limit=$(scontrol show config 2>/dev/null | sed -n 's/^SlurmdTimeout *= *\([0-9]*\) sec.*/\1/p')
    limit=$((${limit:-300} + 60))
    say "the ranks ended with $status, and a node of the job does not answer; waits up to $limit s for Slurm to notice, which" \
        "then requeues the job"
    sleep "$limit" &
    wait $! || true
}

# Is Slurm taking the nodes away for another job? (PreemptTime may be that of an earlier start.)
preempted() {
    local since
    since=$(job_field PreemptTime)
    [[ $since == [0-9]* && ! $since < $(job_field StartTime) ]]
}

# A job that stopped early runs again, unless that is off, or leads nowhere.
requeue() { # REASON
    local reason=$1
    if [[ ${DEEPLAB_REQUEUE:-1} == 0 ]]; then
        say "$reason; DEEPLAB_REQUEUE=0: submit the same command again to continue"
    elif [[ $job_description == *JobState=* && $(job_field JobState) != RUNNING ]]; then
        # Cancelled, preempted or at its time limit: Slurm has decided already.
        say "$reason; the job is $(job_field JobState), so it is not requeued from here: unless Slurm does, submit the same" \
            "command again to continue"
    elif stuck; then
        say "stopped early, and no step further than at the last two starts (step $step_after) — it would be requeued for" \
            "ever — give the job more time than the start and ${DEEPLAB_TIME_MARGIN:-120} s at its end take; then submit the" \
            "same command again"
    elif [[ $(job_field Requeue) == 0 ]]; then
        submit_again "$reason"
    elif scontrol requeue "$SLURM_JOB_ID"; then
        say "$reason; requeued, job $SLURM_JOB_ID continues"
    else
        say "$reason; scontrol requeue failed: submit the same command again to continue"
    fi
}

# A new job like this one, where this one may not be requeued. It waits for the end of this one.
submit_again() { # REASON
    local options=(--parsable --no-requeue "--dependency=afterany:$SLURM_JOB_ID" "--nodes=$nodes") field name new
    for field in JobName:--job-name Partition:--partition Account:--account QOS:--qos TimeLimit:--time WorkDir:--chdir \
        StdOut:--output Reservation:--reservation Features:--constraint; do
        name=${field#*:} field=$(job_field "${field%%:*}")
        [[ -z $field || $field == "(null)" || $field == N/A || $field == Partition_Limit ]] ||
            options+=("$name=$field")
    done
    for field in NTASKS_PER_NODE:ntasks-per-node CPUS_PER_TASK:cpus-per-task GPUS_PER_NODE:gpus-per-node \
        GPUS_PER_TASK:gpus-per-task MEM_PER_NODE:mem MEM_PER_CPU:mem-per-cpu; do
        name=SLURM_${field%%:*}
        [[ -z ${!name:-} ]] || options+=("--${field#*:}=${!name}")
    done
    [[ -z ${SLURM_NTASKS:-} || -n ${SLURM_NTASKS_PER_NODE:-} ]] || options+=("--ntasks=$SLURM_NTASKS")
    [[ $(job_field OverSubscribe) != OK ]] || options+=(--oversubscribe)
    # The new job must not see this one's shape.
    local own=()
    for name in $(compgen -e); do
        case $name in SLURM_CONF) ;; SLURM_* | SLURMD_* | SBATCH_* | PMIX_* | OMPI_COMM_*) own+=(-u "$name") ;; esac
    done
    if new=$(env "${own[@]}" "DEEPLAB_ROOT=$root" sbatch "${options[@]}" "$root/jobs/$script_name" "${script_arguments[@]}"); then
        say "$1; this job may not be requeued, so job $new was submitted: it continues"
    else
        say "$1; this job may not be requeued, and sbatch failed: submit the same command again to continue"
    fi
}

# run_job PROGRAM: the whole of a job script after its options were taken.
run_job() {
    local program status=0
    script_name=${1#deeplab-}.sbatch
    job_description=
    load_site
    program=$(program_path "$1")
    allow_root
    job_shape
    place_ranks
    if ((dry_run)); then
        [[ -n ${SLURM_JOB_ID:-} ]] || say "not in a Slurm job: shown for $nodes node(s) with $gpus GPU(s); set" \
            "SLURM_JOB_NUM_NODES and SLURM_GPUS_ON_NODE to see others"
        command=("${launch[@]}" "$program" "${program_options[@]}")
        print_command
        return
    fi
    [[ -n ${SLURM_JOB_ID:-} ]] || fail 2 "not in a Slurm job — there are no nodes to run on — submit with" \
        "\"sbatch -N NODES $0 …\"; on one machine use jobs/workstation.sh, or mpirun with the program itself"
    require_program "$program"
    watch_signals
    describe_job
    say "$nodes node(s), $tasks rank(s), $cpus_per_task core(s) a rank, $gpus GPU(s) a node," \
        "start $((${SLURM_RESTART_COUNT:-0} + 1)) of job $SLURM_JOB_ID"
    [[ $1 != deeplab-train ]] || check_space
    # The packer writes shards.
    if [[ $1 == deeplab-pack ]]; then stage=''; else stage_shards; fi
    if [[ $1 == deeplab-train ]]; then
        add_time_budget
        begin_attempt
    fi
    command=("${launch[@]}" "$program" "${program_options[@]}")
    say "runs: $(print_command)"
    run_command
    end_attempt "$status"
    leave_shards
    describe_job # as Slurm sees it now
    case $status in
        0 | 2 | 3) ;;
        75) requeue "stopped early with a good checkpoint" ;;
        *)
            # mpirun's daemons may end before the ranks' code 75 has reached it.
            if preempted; then
                requeue "preempted"
            elif ((nodes > 1 && !asked_to_stop)); then
                await_dead_node
            fi
            ;;
    esac
    exit "$status"
}

# shellcheck source=attempt.sh
source "$root/jobs/lib/attempt.sh"
# shellcheck source=space.sh
source "$root/jobs/lib/space.sh"
# shellcheck source=stage.sh
source "$root/jobs/lib/stage.sh"
