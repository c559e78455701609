#!/bin/bash
# Measures how the training step scales, weakly and strongly, and writes a report. `--help` explains.
#SBATCH --job-name=deeplab-scaling
#SBATCH --output=%x-%j.log
#SBATCH --exclusive
# shellcheck disable=SC2154  # take_options assigns
set -euo pipefail

usage() {
    cat <<END
usage: jobs/scaling.sh [--launcher mpirun|slurm] --sizes "1 2 4" [--weak BATCH] [--strong BATCH] --out DIR [--dry-run]
                       [options of deeplab-bench step]
       jobs/scaling.sh --report DIR

Takes training steps (deeplab-bench step, generated input) on each size and writes DIR/weak-0004.json, …; then the report:
DIR/README.md with tables and figures, scaling.csv, summary.json. Points that are there already are not measured again.

$(option_help)

example:
  jobs/scaling.sh --sizes "1 2" --weak 2 --strong 4 --out scaling --backbone resnet50 --crop 257 --threads 1

On one machine give --threads, or a single rank takes all cores and more ranks only divide them.
END
}

root=
for folder in ${DEEPLAB_ROOT:+"$DEEPLAB_ROOT"} "$(dirname "${BASH_SOURCE[0]}")/.." "${SLURM_SUBMIT_DIR:-.}" \
    "${SLURM_SUBMIT_DIR:-.}/.."; do
    [[ -f $folder/jobs/lib/slurm.sh ]] || continue
    root=$(cd "$folder" && pwd)
    break
done
if [[ -z $root ]]; then
    echo "$0: no checkout of deeplab-hpc in DEEPLAB_ROOT=${DEEPLAB_ROOT:-} or SLURM_SUBMIT_DIR=${SLURM_SUBMIT_DIR:-} — the" \
        "programs and jobs/lib/ are found from there — submit from the checkout, or export DEEPLAB_ROOT" \
        "(the module of an installation does)" >&2
    exit 2
fi
# shellcheck source=lib/slurm.sh
source "$root/jobs/lib/slurm.sh"

option_table=(
    "--launcher NAME" by mpirun "mpirun: sizes are ranks on this machine; slurm: sizes are nodes, each an sbatch -N of its own with
        a rank per GPU (or node); when all jobs have ended, --report DIR writes the report"
    "--sizes LIST" sizes '' "in quotes"
    "--weak BATCH" weak '' "the same local batch on every size"
    "--strong BATCH" strong '' "the same global batch on every size: the ranks must divide it"
    "--interconnect FILE" interconnect '' "predict more ranks with this description of an interconnect (benchmarks/interconnects) in the report"
    "--out DIR" out '' "the folder of the measurements"
    "--report DIR" report '' "only writes the report of what is there"
    "--point KIND:BATCH:NODES" point '' "inside a job that --launcher slurm submitted: measures this point"
    "--dry-run" dry_run 0 "prints the commands"
)
take_options passed "$@"
load_site
program=$(program_path deeplab-bench)
allow_root

write_report() { # DIR
    local python=
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import matplotlib' 2>/dev/null; then break; fi
    done
    command -v "$python" >/dev/null || fail 2 "python3 is missing — it writes the report — install it, then run --report $1"
    "$python" "$root/benchmarks/scaling_report.py" "$1" ${interconnect:+--interconnect "$interconnect"}
}

# One point: KIND:BATCH with `tasks` ranks, into FILE. Fills `command`.
point_command() { # KIND BATCH FILE
    local batch=$2
    if [[ $1 == strong ]]; then
        ((batch % tasks == 0)) || fail 2 "$tasks ranks do not divide the global batch $batch — each rank needs the same share" \
            "— choose another --strong or other --sizes"
        batch=$((batch / tasks))
    fi
    local options=(step --batch "$batch" --json "$3" "${program_options[@]}")
    if [[ $by == mpirun ]]; then
        command=(mpirun -np "$tasks" --bind-to none)
        if ((tasks > $(nproc))); then
            command+=(--oversubscribe)
            export OMPI_MCA_mpi_yield_when_idle=1 OMP_WAIT_POLICY=passive
        fi
        command+=("$program" "${options[@]}")
    else
        place_ranks
        command=("${launch[@]}" "$program" "${options[@]}")
    fi
}

# Measures into a temporary name: what stands under its own name is whole.
measure() { # KIND BATCH FILE
    local status=0
    point_command "$1" "$2" "$3.part"
    if ((dry_run)); then
        print_command
        return
    fi
    say "runs: $(print_command)"
    "${command[@]}" || status=$?
    ((status == 0)) || exit "$status"
    mv "$3.part" "$3"
}

if [[ -n $report ]]; then
    write_report "$report"
    exit
fi
[[ $by == mpirun || $by == slurm ]] || fail 2 "--launcher $by is neither mpirun nor slurm — nothing can be" \
    "started — choose one"
[[ -n $out ]] || fail 2 "--out is missing — the measurements need a folder — give --out DIR"

if [[ -n $point ]]; then # inside a job: KIND:BATCH:NODES
    IFS=: read -r kind batch nodes <<<"$point"
    job_shape
    measure "$kind" "$batch" "$out/$kind-$(printf '%04d' "$nodes").json"
    exit
fi

[[ -n $sizes && -n $weak$strong ]] || fail 2 "--sizes and --weak or --strong are missing — there is nothing to measure — see --help"
for size in $sizes; do require_number --sizes "$size" 1; done
for kind in weak strong; do
    [[ -z ${!kind} ]] || require_number "--$kind" "${!kind}" 1
done
if ((!dry_run)); then
    require_program "$program"
    mkdir -p "$out"
fi
jobs=0
for kind in weak strong; do
    [[ -n ${!kind} ]] || continue
    for size in $sizes; do
        file=$out/$kind-$(printf '%04d' "$size").json
        if [[ -f $file ]]; then
            say "$file is there: kept"
        elif [[ $by == mpirun ]]; then
            tasks=$size
            measure "$kind" "${!kind}" "$file"
        else
            command=(sbatch --parsable -N "$size" "$root/jobs/scaling.sh" --launcher slurm --point "$kind:${!kind}:$size"
                --out "$(realpath -m "$out")" -- "${program_options[@]}")
            jobs=$((jobs + 1))
            if ((dry_run)); then print_command; else "${command[@]}"; fi
        fi
    done
done
((!dry_run)) || exit 0
if ((jobs > 0)); then
    say "$jobs job(s) submitted; when they have ended: jobs/scaling.sh --report $out"
else
    write_report "$out"
fi
