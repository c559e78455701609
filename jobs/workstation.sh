#!/bin/bash
# Trains, or runs another program, on this machine by mpirun. `--help` explains.
# shellcheck disable=SC2154  # take_options assigns
set -euo pipefail

usage() {
    cat <<END
usage: jobs/workstation.sh [-n RANKS] [--program NAME] [--restart] [--dry-run] [options of the program]

Runs deeplab-train, or another program, under mpirun on this machine, with one rank per GPU (CUDA_VISIBLE_DEVICES limits
them). Without GPUs, or with --device cpu, -n says how many ranks; they divide the cores among themselves.

$(option_help)

example:
  jobs/workstation.sh -n 2 --config jobs/configs/quickstart_cpu.toml --data shards --out run

Ctrl-C, TERM, USR1 or a closed terminal: the run writes a checkpoint and ends with 75. (TERM to mpirun itself kills it.)

jobs/README.md has the variables (DEEPLAB_SITE, DEEPLAB_BUILD).
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=lib/slurm.sh
source "$root/jobs/lib/slurm.sh"

# GPUs that the programs would see.
count_gpus() {
    if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
        local devices
        IFS=, read -ra devices <<<"$CUDA_VISIBLE_DEVICES"
        echo "${#devices[@]}"
    elif command -v nvidia-smi >/dev/null; then
        nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true
    else
        echo 0
    fi
}

# mpirun counts a slot per core, not per hardware thread.
count_cores() {
    local cores threads
    threads=$(nproc)
    cores=$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l) || cores=$threads
    echo $((cores > 0 && cores < threads ? cores : threads))
}

option_table=(
    "-n|-np RANKS" ranks '' "number of ranks"
    "--program NAME" program_name deeplab-train "deeplab-eval or another that runs under mpirun"
    "--restart" restart 0 "starts again, with --resume, when the program stopped early with a good checkpoint (exit code 75:
        --time-budget), until it is done"
    "${stage_options[@]}"
    "--dry-run" dry_run 0 "prints the command that would run"
)
take_options passed "$@"
[[ -z $ranks ]] || require_number -n "$ranks" 1
device=$(option_value --device)

load_site
program=$(program_path "$program_name")
allow_root
if [[ -z $ranks ]]; then
    ranks=0
    [[ $device == cpu ]] || ranks=$(count_gpus)
    ((ranks > 0)) || fail 2 "no GPU to count and no -n — the number of ranks is unknown — write -n RANKS, for example -n 1"
fi

# Its default ties one or two ranks to a core each; unbound ranks divide the cores among themselves.
launch=(mpirun -np "$ranks" --bind-to none)
if ((ranks > $(count_cores))); then
    launch+=(--oversubscribe)
    # Waiting ranks and threads must give way to working ones.
    export OMPI_MCA_mpi_yield_when_idle=1 OMP_WAIT_POLICY=passive
fi
command=("${launch[@]}" "$program" "${program_options[@]}")
if ((dry_run)); then
    print_command
    exit 0
fi
require_program "$program"
command -v mpirun >/dev/null || fail 2 "mpirun is missing — it starts the ranks — install Open MPI (jobs/quickstart.sh does)," \
    "or load its module in a site file (DEEPLAB_SITE)"

watch_signals
trap 'asked_to_stop=1; [[ -z $child ]] || kill -USR1 "$child" 2>/dev/null || true' HUP
# A terminal's Ctrl-C goes to all of its processes, and mpirun would kill the ranks.
! command -v setsid >/dev/null || apart=(setsid)
[[ $program_name != deeplab-train ]] || check_space
stage_shards
command=("${launch[@]}" "$program" "${program_options[@]}")
for ((restarts = 0; ; ++restarts)); do
    if [[ $program_name == deeplab-train ]]; then begin_attempt; fi
    run_command
    end_attempt "$status"
    if ((status != 75 || !restart || asked_to_stop)); then break; fi
    if stuck; then
        say "stopped early twice, and no step further (step $step_after) — it would start for ever — give a larger --time-budget"
        break
    fi
    has_option --resume || program_options+=(--resume)
    command=("${launch[@]}" "$program" "${program_options[@]}")
    say "stopped early with a good checkpoint; starts again: $(print_command)"
done
leave_shards
exit "$status"
