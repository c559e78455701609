# shellcheck shell=bash
# What Slurm says of this job: its time limit, whether it takes the nodes away, whether one has died.
# shellcheck disable=SC2154
set -u

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

nodes_answer() {
    timeout 20 srun --overlap --mpi=none "--nodes=$nodes" "--ntasks=$nodes" --ntasks-per-node=1 --immediate=15 true >/dev/null 2>&1
}

# The mpirun of Open MPI 5 (PRRTE) ends with 0 when it loses a node's daemon, though it has ended the ranks.
lost_a_node() {
    [[ ${launch[0]##*/} != srun ]] && ((nodes > 1 && !asked_to_stop)) || return
    describe_job
    preempted || ! nodes_answer
}

# When a node dies the ranks may end before Slurm knows why; a job that ended by itself would not be requeued for the node.
await_dead_node() {
    local limit
    ! nodes_answer || return 0
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
