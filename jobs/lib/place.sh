#!/bin/bash
# Prints where a rank is: one line each, started in the program's stead with the same launcher and flags.
set -euo pipefail
rank=${OMPI_COMM_WORLD_RANK:-${SLURM_PROCID:-0}}
local_rank=${OMPI_COMM_WORLD_LOCAL_RANK:-${SLURM_LOCALID:-0}}
cores=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
printf '%5d  %s  local %d  cores %s  GPUs %s\n' "$rank" "$(hostname)" "$local_rank" "$cores" "${CUDA_VISIBLE_DEVICES:-not limited}"
if ((local_rank == 0)) && command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=index,name,memory.total,driver_version --format=csv,noheader 2>/dev/null |
        sed "s/^/$(printf '%5d' "$rank")  $(hostname)  GPU /" || true
fi
