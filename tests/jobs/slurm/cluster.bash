# shellcheck shell=bash
# A throw-away Slurm for a test that has sourced ../support.bash: start_cluster NODES, then submit and finish. Skips the
# test without Slurm, root, or leave to make namespaces.
set -u

: "${temporary:?set by support.bash}" "${root:?}" "${built:?}"

start_cluster() { # NODES
    PATH=$PATH:/usr/sbin:/sbin
    for tool in slurmctld slurmd munged srun mpirun unshare; do
        command -v $tool >/dev/null || skip "no $tool"
    done
    ((EUID == 0)) || skip "virtual nodes need root"
    unshare --uts --mount true 2>/dev/null || skip "no leave to make namespaces"
    mknod "$temporary/null" c 1 3 2>/dev/null || skip "no leave to make device files"

    cluster=$temporary/cluster
    cleanups+=("$root/tests/jobs/slurm/down.sh $cluster")
    if ! output=$("$root/tests/jobs/slurm/up.sh" "$cluster" "$1" 2>&1); then
        failed "no Slurm: $output"
        tail -n 5 "$cluster"/log/*
        verdict
    fi
    export SLURM_CONF=$cluster/slurm.conf SBATCH_TIMELIMIT=5
    [[ $(srun --mpi=list 2>&1) == *pmix* ]] || skip "this Slurm has no PMIx"

    # A site file: two nodes of four pretended cores share few real ones, and one machine's addresses, of which Open MPI 5 pairs
    # IPv4's alone.
    cat >"$temporary/site.sh" <<'SITE'
export OMPI_MCA_mpi_yield_when_idle=1 OMP_WAIT_POLICY=passive OMPI_MCA_btl_tcp_disable_family=6
SITE
    export DEEPLAB_SITE=$temporary/site.sh DEEPLAB_ROOT=$root
    cd "$temporary" || exit
}

submit() { # sbatch options, script, program options: leaves `job` and `log`
    job=$(sbatch --parsable "$@")
    log=$temporary/job-$job.log
}
state() { scontrol show job "$job" 2>/dev/null | tr ' ' '\n' | sed -n "s/^$1=//p" | head -n 1; }
finish() { # SECONDS: waits until the job has ended; leaves `output` and the job's exit code in `status`
    local i
    for ((i = 0; i < $1 * 10; ++i)); do
        case $(state JobState) in
            COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) break ;;
        esac
        sleep 0.1
    done
    output=$(cat "$log" 2>/dev/null || true)
    status=$(state ExitCode)
    status=${status%:*}
    ((i < $1 * 10)) || failed "job $job has not ended after $1 s but is $(state JobState): $output"
}
finish_with() { # SECONDS CODE WHAT
    finish "$1"
    expect_status "$2" "$3"
}
lines() { grep -c "$1" "$log" || true; }

# power_off NODE: all of its processes end at once, the daemon's and the ranks'. node.sh starts it again.
power_off() {
    local daemon space process
    daemon=$(<"$cluster/run/slurmd-$1.pid")
    space=$(readlink "/proc/$daemon/ns/uts")
    [[ $space != "$(readlink /proc/self/ns/uts)" ]] || fail_node "$1"
    for process in /proc/[0-9]*; do
        [[ $(readlink "$process/ns/uts" 2>/dev/null) != "$space" ]] || kill -KILL "${process#/proc/}" 2>/dev/null || true
    done
}
fail_node() { failed "$1 has no host name of its own: its processes cannot be told from this machine's"; verdict; }

tiny_configuration() { # ITERATIONS CHECKPOINT_EVERY
    cat <<CONFIG
[model]
backbone = "resnet18"
output_stride = 16
[data]
train_split = "train"
val_split = "val"
crop = 33
resize = {mode = "factor", range = [0.5, 1.0], step = 0.25}
[train]
iterations = $1
global_batch = 4
log_every = 1
seed = 1
[optimizer]
lr = 0.01
momentum = 0.9
weight_decay = 1e-4
[checkpoint]
every = $2
CONFIG
}

# Pictures in drawn/, and tiny.toml: a training of seconds on their shards.
write_tiny_training() { # ITERATIONS CHECKPOINT_EVERY
    "$built/bin/deeplab-make-shapes" --out drawn --train 8 --val 4 --size 64x64 >/dev/null
    tiny_configuration "$@" >tiny.toml
}
