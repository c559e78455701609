# shellcheck shell=bash
# What the job scripts share. Sourced with `root` (the checkout) set; jobs/README.md has the variables a user may set.

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

# take_options ARGUMENTS: --help and --dry-run are ours, all else goes into program_options; `--` ends ours.
# The caller defines usage().
take_options() {
    dry_run=0
    program_options=()
    while (($#)); do
        case $1 in
            -h | --help)
                usage
                exit 0
                ;;
            --dry-run) dry_run=1 ;;
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

# program_path NAME: where the build left a program; a relative DEEPLAB_BUILD is taken from the checkout.
program_path() {
    local build=${DEEPLAB_BUILD:-build}
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

# launch_command PROGRAM: fills `command` from the launcher and the job's shape.
launch_command() {
    local launcher
    read -ra launcher <<<"${DEEPLAB_LAUNCHER:-srun --mpi=pmix}"
    command=("${launcher[@]}")
    case ${launcher[0]##*/} in
        srun)
            # srun of Slurm 22.05 and later does not take over the job's --cpus-per-task.
            command+=("--nodes=$nodes" "--ntasks=$tasks" "--cpus-per-task=$cpus_per_task")
            [[ -z $tasks_per_node ]] || command+=("--ntasks-per-node=$tasks_per_node")
            # A step that asks for no GPUs gets none in an exclusive job. No --gpu-bind: every rank sees all of the node's.
            if ((gpus > 0)) && [[ -z ${SLURM_GPUS_PER_TASK:-} ]]; then command+=("--gpus-per-node=$gpus"); fi
            # --kill-on-bad-exit=1 kills the other ranks when the first ends with 75, and the exit code becomes 143.
            command+=(--kill-on-bad-exit=0 --wait=30)
            ;;
        mpirun | mpiexec)
            command+=(-np "$tasks")
            [[ -z $tasks_per_node ]] || command+=(--map-by "ppr:$tasks_per_node:node")
            # Its default ties a rank to one core; unbound ranks divide the node's cores among themselves.
            command+=(--bind-to none)
            # mpirun starts its daemons by srun, which reads this.
            if ((gpus > 0)) && [[ -z ${SLURM_GPUS_PER_TASK:-} ]]; then export SLURM_GPUS_PER_NODE=$gpus; fi
            ;;
        *)
            fail 2 "DEEPLAB_LAUNCHER=\"$DEEPLAB_LAUNCHER\" starts with neither srun nor mpirun — the flags that place the ranks" \
                "are unknown — use \"srun --mpi=pmix\" or mpirun, with further flags behind"
            ;;
    esac
    command+=("$1" "${program_options[@]}")
}

print_command() {
    printf '%q ' "${command[@]}"
    printf '\n'
}

# Runs `command` and leaves its exit code in `status`. USR1 (the time limit is near) goes on to the launcher, and so to
# the ranks, which write a checkpoint and end with 75.
run_command() {
    local child='' signalled=0
    trap 'signalled=1; [[ -z $child ]] || kill -USR1 "$child" 2>/dev/null || true' USR1
    "${command[@]}" &
    child=$!
    while :; do
        status=0
        wait "$child" || status=$?
        ((signalled)) || break
        signalled=0 # the trap interrupted wait: the program still runs, or its code is still to be had
    done
    trap - USR1
}

# A job that stopped with a good checkpoint runs again, unless that is off.
requeue() {
    if [[ ${DEEPLAB_REQUEUE:-1} == 0 ]]; then
        say "stopped early with a good checkpoint; DEEPLAB_REQUEUE=0: submit the same command again to continue"
    elif [[ $(scontrol show job "$SLURM_JOB_ID" 2>/dev/null) != *Requeue=1* ]]; then
        say "stopped early with a good checkpoint; this job may not be requeued: submit the same command again to continue"
    elif scontrol requeue "$SLURM_JOB_ID"; then
        say "stopped early with a good checkpoint; requeued, job $SLURM_JOB_ID continues"
    else
        say "stopped early with a good checkpoint; scontrol requeue failed: submit the same command again to continue"
    fi
}

# run_job PROGRAM: the whole of a job script after its options were taken.
run_job() {
    local program status=0
    load_site
    program=$(program_path "$1")
    allow_root
    job_shape
    launch_command "$program"
    if ((dry_run)); then
        [[ -n ${SLURM_JOB_ID:-} ]] || say "not in a Slurm job: shown for $nodes node(s) with $gpus GPU(s); set" \
            "SLURM_JOB_NUM_NODES and SLURM_GPUS_ON_NODE to see others"
        print_command
        return
    fi
    [[ -n ${SLURM_JOB_ID:-} ]] || fail 2 "not in a Slurm job — there are no nodes to run on — submit with" \
        "\"sbatch -N NODES $0 …\"; on one machine use jobs/workstation.sh, or mpirun with the program itself"
    require_program "$program"
    say "$nodes node(s), $tasks rank(s), $cpus_per_task core(s) a rank, $gpus GPU(s) a node," \
        "start $((${SLURM_RESTART_COUNT:-0} + 1)) of job $SLURM_JOB_ID"
    say "runs: $(print_command)"
    run_command
    ((status != 75)) || requeue
    exit "$status"
}
