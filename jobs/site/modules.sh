# shellcheck shell=bash
# A cluster with environment modules: DEEPLAB_MODULES has those that the programs were built with, in the order of loading.
if ! command -v module >/dev/null; then
    for file in /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do
        # shellcheck disable=SC1090
        [[ ! -f $file ]] || { source "$file"; break; }
    done
fi
if ! command -v module >/dev/null; then
    echo "modules.sh: no \`module\` on $(hostname): source your cluster's file in a copy of this one" >&2
    return 1
fi
module purge
# shellcheck disable=SC2086
module load ${DEEPLAB_MODULES:-gcc openmpi hdf5} || return 1
# Open MPI of a module often lacks the cluster's PMIx: its mpirun always fits.
export DEEPLAB_LAUNCHER=${DEEPLAB_LAUNCHER:-mpirun}
true
