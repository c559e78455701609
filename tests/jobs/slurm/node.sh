#!/bin/bash
# node.sh FOLDER NODE: starts a node of the throw-away Slurm that up.sh made in FOLDER. A host name and a /dev/shm of its
# own, or Open MPI's shared-memory files of two nodes collide. It comes up as after a reboot: without the files of old jobs.
set -euo pipefail
folder=$(cd "${1:?usage: node.sh FOLDER NODE}" && pwd)
export SLURM_CONF=$folder/slurm.conf
rm -rf "$folder/spool/$2" "$folder/tmp/$2"
mkdir -p "$folder/spool/$2" "$folder/tmp/$2"
# shellcheck disable=SC2016
unshare --uts --mount --propagation private bash -c \
    'hostname "$1" && mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec slurmd -N "$1"' - "$2"
