# shellcheck shell=bash
# What the job scripts share, in parts. Sourced with `root` (the checkout, or an installation's share/deeplab-hpc) set;
# jobs/README.md has the variables a user may set.
# shellcheck disable=SC2034,SC2154
set -u

: "${root:?the checkout, set by the script that sources this}"

# shellcheck source=messages.sh
source "$root/jobs/lib/messages.sh"
# shellcheck source=option_table.sh
source "$root/jobs/lib/option_table.sh"
# shellcheck source=programs.sh
source "$root/jobs/lib/programs.sh"
# shellcheck source=one_rank.sh
source "$root/jobs/lib/one_rank.sh"
# shellcheck source=ranks.sh
source "$root/jobs/lib/ranks.sh"
# shellcheck source=signals.sh
source "$root/jobs/lib/signals.sh"
# shellcheck source=slurm_job.sh
source "$root/jobs/lib/slurm_job.sh"
# shellcheck source=requeue.sh
source "$root/jobs/lib/requeue.sh"
# shellcheck source=attempt.sh
source "$root/jobs/lib/attempt.sh"
# shellcheck source=space.sh
source "$root/jobs/lib/space.sh"
# shellcheck source=stage.sh
source "$root/jobs/lib/stage.sh"

job_options=(
    "--dry-run" dry_run 0 "prints the command that the job would run; works outside Slurm, too"
)

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
    if ((status == 0)) && lost_a_node; then status=4; fi
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
