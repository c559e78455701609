# shellcheck shell=bash
# How many ranks a Slurm job has, where they run, and the command that starts them.
set -u

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
