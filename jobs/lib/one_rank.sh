# shellcheck shell=bash
# A program alone, in a job that has more ranks.
set -u

# as_one_rank COMMAND…: a program of one rank, whoever started this script.
as_one_rank() {
    local name own=()
    for name in $(compgen -e); do
        case $name in SLURM_* | PMIX_* | PMI_* | OMPI_COMM_* | OMPI_MCA_*) own+=(-u "$name") ;; esac
    done
    env "${own[@]}" OMPI_MCA_ess_singleton_isolated=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "$@"
}
