# shellcheck shell=bash
# What one start of a run was: RUN/attempts/DATE-JOB.txt. Sourced by slurm.sh, which sets what is used here.
# shellcheck disable=SC2154
set -u

# The step of the run's latest checkpoint; -1: none.
checkpoint_step() { # RUN
    local file
    file=$(readlink "$1/checkpoints/latest.h5" 2>/dev/null || true)
    [[ $file =~ step-([0-9]{1,15})\.h5$ ]] || file=$(find "$1/checkpoints" -name 'step-*.h5' 2>/dev/null | sort | tail -n 1)
    if [[ $file =~ step-([0-9]{1,15})\.h5$ ]]; then echo $((10#${BASH_REMATCH[1]})); else echo -1; fi
}

# Variables that decide how a run goes, by name. Nothing whose name or value looks like a secret.
relevant_environment() {
    local name value
    for name in $(compgen -e | LC_ALL=C sort); do
        case $name in
            *TOKEN* | *SECRET* | *PASS* | *CREDENTIAL* | *KEY* | *AUTH* | *JWT* | *COOKIE*) ;;
            DEEPLAB_* | SLURM_* | OMP_* | GOMP_* | KMP_* | MKL_* | DNNL_* | ONEDNN_* | OMPI_* | PMIX_* | UCX_* | FI_* | NCCL_* | \
                CUDA_* | CUDNN_* | NVIDIA_* | HDF5_* | MALLOC_* | PATH | LD_LIBRARY_PATH | LD_PRELOAD | LOADEDMODULES | CONDA_PREFIX)
                value=${!name}
                printf '%s=%s\n' "$name" "$(sed -E 's,://[^/@[:space:]]+@,://…@,g' <<<"$value")"
                ;;
        esac
    done
}

source_version() {
    local hash
    if [[ -f $root/jobs/lib/programs ]]; then
        hash=$("$program" --version | sed -n 's/^git: //p')
    elif hash=$(git -C "$root" rev-parse HEAD 2>/dev/null); then
        [[ -z $(git -C "$root" status --porcelain --untracked-files=no 2>/dev/null) ]] || hash+=" with changes"
    fi
    echo "${hash:-unknown}"
}

section() { printf '\n[%s]\n' "$1"; }

# Leaves `attempt`, the record's file (empty: none is kept), `run` and `step_before`.
begin_attempt() {
    attempt='' step_before=-1 step_after=-1
    run=$(option_value --out)
    [[ -n $run ]] || return 0
    step_before=$(checkpoint_step "$run")
    # The program refuses that, and nothing may be touched.
    if ((step_before >= 0)) && ! has_option --resume; then return 0; fi
    local name=pid$$-start$((${restarts:-0} + 1))
    [[ -z ${SLURM_JOB_ID:-} ]] || name=job$SLURM_JOB_ID-start$((${SLURM_RESTART_COUNT:-0} + 1))
    attempt=$run/attempts/$(date -u +%Y%m%dT%H%M%SZ)-$name.txt
    if ! mkdir -p "$run/attempts" 2>/dev/null || ! describe_attempt >"$attempt"; then
        say "cannot write $attempt; this start is not recorded"
        attempt=
    fi
}

describe_attempt() {
    echo "started: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "job: ${SLURM_JOB_ID:-none}"
    echo "nodes: ${SLURM_JOB_NODELIST:-$(hostname)}"
    echo "system: $(uname -srm)"
    echo "source: $(source_version)"
    echo "folder: $PWD"
    echo "launcher: $(timeout 10 "${launch[0]}" --version 2>/dev/null | head -n 1)"
    echo "site file: ${DEEPLAB_SITE:-none}"
    echo "modules: ${LOADEDMODULES:-none}"
    echo "checkpoint before: $step_before"
    section "command line"
    printf '%q ' "${launch[@]}" "$program" "${program_options[@]}"
    echo
    if [[ -n ${SLURM_JOB_ID:-} ]]; then
        section "scontrol show job"
        echo "$job_description"
    fi
    section "ranks"
    timeout 120 "${launch[@]}" "$root/jobs/lib/place.sh" 2>&1 </dev/null | LC_ALL=C sort || echo "not to be had"
    section environment
    relevant_environment
}

# end_attempt CODE: the record's last line; leaves `step_after`. A start that was refused leaves no folder behind.
end_attempt() {
    [[ -n ${run:-} ]] || return 0
    step_after=$(checkpoint_step "$run")
    [[ -n $attempt ]] || return 0
    printf '\nended: %s code %d from %d to %d\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" "$step_before" "$step_after" \
        >>"$attempt" 2>/dev/null || say "cannot write $attempt; how this start ended is not recorded"
    if (($1 == 2)) && [[ $(find "$run" -mindepth 1 ! -path "$run/attempts*" -print -quit) == "" ]]; then
        rm -f "$attempt"
        rmdir "$run/attempts" "$run" 2>/dev/null || true
    fi
}

# Did this start and the one before stop early without a new checkpoint?
stuck() {
    [[ -n ${attempt:-} ]] && ((step_after <= step_before)) || return 1
    local file count=0
    while read -r file; do
        [[ $(tail -n 1 "$file") =~ \ code\ 75\ from\ (-?[0-9]+)\ to\ (-?[0-9]+)$ ]] || return 1
        ((BASH_REMATCH[2] <= BASH_REMATCH[1])) || return 1
        ((++count < 2)) || return 0
    done < <(find "$run/attempts" -name '*.txt' | LC_ALL=C sort -r)
    return 1
}
