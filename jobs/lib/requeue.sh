# shellcheck shell=bash
# A job that stopped early with a good checkpoint starts again: requeued, or submitted anew.
# shellcheck disable=SC2154
set -u

# From 24.05 on Slurm requeues a job that ends in its partition's GraceTime. When the job was requeued before that, Slurm does
# it once more at the end of the next start.
requeued_by_slurm() {
    local version
    preempted || return
    version=$(scontrol --version 2>/dev/null | sed -n 's/^slurm[^0-9]*\([0-9]*\)\.\([0-9][0-9]\).*/\1\2/p')
    ((10#${version:-0} >= 2405)) &&
        [[ $(scontrol show config 2>/dev/null) =~ PreemptType\ *=\ preempt/partition_prio ]] &&
        [[ $(scontrol show partition "$(job_field Partition)" 2>/dev/null) =~ PreemptMode=REQUEUE ]]
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
    elif requeued_by_slurm; then
        say "$reason; Slurm, which takes its nodes for another job, requeues it: job $SLURM_JOB_ID continues"
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
