#!/bin/bash
# Trains, or runs another program, on this machine by mpirun. `--help` explains.
set -euo pipefail

usage() {
    cat <<'END'
usage: jobs/workstation.sh [-n RANKS] [--program NAME] [--restart] [--dry-run] [options of the program]

Runs deeplab-train, or another program, under mpirun on this machine, with one rank per GPU (CUDA_VISIBLE_DEVICES limits
them). Without GPUs, or with --device cpu, -n says how many ranks; they divide the cores among themselves.

  -n RANKS         number of ranks
  --program NAME   deeplab-train (the default), deeplab-eval or another that runs under mpirun
  --restart        starts again, with --resume, when the program stopped early with a good checkpoint (exit code 75:
                   --time-budget), until it is done
  --stage DIR      copies the shards to a folder on this machine's own disk, once, verifies them and reads them there
  --unstage        removes that copy at the end, unless another job uses it
  --help           this text
  --dry-run        prints the command that would run
  --               all that follows goes to the program untouched

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

ranks='' name=deeplab-train restart=0 arguments=()
while (($#)); do
    case $1 in
        -n | -np)
            (($# > 1)) || fail 2 "$1 lacks its number — mpirun needs to know how many ranks — write $1 RANKS"
            ranks=$2
            require_number "$1" "$ranks" 1
            shift
            ;;
        --program)
            [[ $# -gt 1 && -n $2 ]] || fail 2 "--program lacks its name — nothing can be run — write --program deeplab-eval"
            name=$2
            shift
            ;;
        --restart) restart=1 ;;
        --)
            arguments+=("$@")
            break
            ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
take_options "${arguments[@]}"
device=$(option_value --device)

load_site
program=$(program_path "$name")
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
[[ $name != deeplab-train ]] || check_space
stage_shards
command=("${launch[@]}" "$program" "${program_options[@]}")
for ((restarts = 0; ; ++restarts)); do
    if [[ $name == deeplab-train ]]; then begin_attempt; fi
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
