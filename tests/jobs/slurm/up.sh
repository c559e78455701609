#!/bin/bash
# A throw-away Slurm on one host: up.sh FOLDER [NODES]. Own key, sockets, ports and logs, all under FOLDER; nothing in
# /etc, no systemd. Virtual nodes node1, node2, … with 4 cores and 4 pretended GPUs each. Prints the line to export.
# Needs root (virtual nodes are namespaces) and Debian's slurm-wlm and munge. down.sh FOLDER ends it.
set -euo pipefail
mkdir -p "${1:?usage: up.sh FOLDER [NODES]}"
folder=$(cd "$1" && pwd)
nodes=${2:-2}
host=$(hostname -s)
mkdir -p "$folder"/{run,log,state,munge}
chmod 700 "$folder/munge"

(umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
# --force: the folder lies under a world-writable one.
munged --force --key-file="$folder/munge/key" --socket="$folder/run/munge.sock" --pid-file="$folder/run/munged.pid" \
    --log-file="$folder/log/munged.log" --seed-file="$folder/munge/seed" --num-threads=2

# Two clusters on one host must not meet: ports from the process id, below the range of outgoing connections.
port=$((20000 + $$ % 1000 * 10))
# cred_expire: a requeued job starts again after seconds instead of two minutes.
# Jobs of the partition urgent preempt those of debug, which have GraceTime seconds to write a checkpoint.
# TmpFS: a folder a node, or the PMIx servers find each other's files.
# config_overrides: the nodes have more cores than the host.
{
    cat <<END
ClusterName=deeplabtest
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
MpiDefault=none
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=2
TmpFS=$folder/tmp/%n
MessageTimeout=10
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdTimeout=10
END
    for ((i = 1; i <= nodes; ++i)); do
        echo "NodeName=node$i NodeHostname=node$i NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=4 Sockets=1" \
            "CoresPerSocket=4 ThreadsPerCore=1 RealMemory=2000 Gres=gpu:4 State=UNKNOWN"
    done
    echo "PartitionName=debug Nodes=node[1-$nodes] Default=YES MaxTime=5 State=UP GraceTime=30"
    echo "PartitionName=urgent Nodes=node[1-$nodes] MaxTime=5 State=UP PriorityTier=10"
} >"$folder/slurm.conf"
echo "Name=gpu File=$folder/run/gpu[0-3]" >"$folder/gres.conf"
printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$folder/cgroup.conf"
for gpu in 0 1 2 3; do mknod "$folder/run/gpu$gpu" c 1 3; done # the device of /dev/null

export SLURM_CONF=$folder/slurm.conf
slurmctld -c
for ((i = 1; i <= nodes; ++i)); do "$(dirname "${BASH_SOURCE[0]}")/node.sh" "$folder" "node$i"; done
for ((i = 0; i < 100; ++i)); do
    if [[ $(sinfo -h -t idle -o %D 2>/dev/null) == "$nodes" ]]; then
        echo "export SLURM_CONF=$SLURM_CONF"
        exit 0
    fi
    sleep 0.1
done
echo "up.sh: the nodes are not ready after 10 seconds — nothing can be submitted — look into $folder/log" >&2
exit 1
