# shellcheck shell=bash
# A cluster whose nodes have the libraries in their system (Debian's packages, a container), and Slurm with PMIx.
export DEEPLAB_LAUNCHER="srun --mpi=pmix"
# A disk of each node's own, where the shards are copied to.
if [[ -n ${SLURM_JOB_ID:-} && -d /local/scratch && -w /local/scratch ]]; then
    export DEEPLAB_STAGE=${DEEPLAB_STAGE:-/local/scratch}
fi
true
