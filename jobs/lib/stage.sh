# shellcheck shell=bash
# Shards on the nodes' own disks (--stage DIR): runs stage_node.sh once a node. Sourced by slurm.sh, which sets what is used
# here.
# shellcheck disable=SC2034,SC2154
set -u

stage_options=(
    "--stage DIR" stage '' "copies the shards to a folder on each node's own disk, once, verifies them and reads them there"
    "--unstage" unstage 0 "removes that copy at the end, unless another job uses it"
)

# on_each_node COMMAND…: with the job's launcher; on this machine where there is no job.
on_each_node() {
    if [[ -z ${SLURM_JOB_ID:-} ]]; then
        "$@"
    elif [[ ${launcher[0]##*/} == srun ]]; then
        srun --mpi=none "--nodes=$nodes" "--ntasks=$nodes" --ntasks-per-node=1 --cpus-per-task=1 --kill-on-bad-exit=0 "$@"
    else
        "${launcher[@]}" -npernode 1 --bind-to none "$@"
    fi
}

stage_name() { echo "deeplab-job-${SLURM_JOB_ID:-pid$$}"; }

# Copies the folder of --data and puts the copy in its place among program_options.
stage_shards() {
    local data status=0 i
    data=$(option_value --data)
    # A site file may have set it, for every job.
    [[ -n $stage || -z $data ]] || stage=${DEEPLAB_STAGE:-}
    [[ -n $stage ]] || return 0
    [[ -n $data ]] || fail 2 "--stage without --data — there are no shards to copy — give --data DIR"
    [[ $stage == /* ]] || fail 2 "--stage $stage is relative — it is a folder on every node's own disk — give its whole path"
    on_each_node "$root/jobs/lib/stage_node.sh" stage "$data" "$stage" "$(stage_name)" "$(program_path deeplab-pack)" || status=$?
    case $status in
        0) ;;
        2 | 3) fail "$status" "the shards could not be copied to $stage (above) — nothing was started" ;;
        *) fail 4 "copying the shards to $stage ended with $status (above) — nothing was started" ;;
    esac
    for i in "${!program_options[@]}"; do
        case ${program_options[$i]} in
            --data) program_options[i + 1]=$stage/$(stage_name) ;;
            --data=*) program_options[i]=--data=$stage/$(stage_name) ;;
        esac
    done
}

# The job's sign on the copies goes; with --unstage the copies go, too.
leave_shards() {
    [[ -n $stage ]] || return 0
    local copies=keep
    ((!unstage)) || copies=remove
    on_each_node "$root/jobs/lib/stage_node.sh" leave "$stage" "$(stage_name)" "$copies" ||
        say "the copies of the shards in $stage could not be released on all nodes"
}
