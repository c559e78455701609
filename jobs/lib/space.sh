# shellcheck shell=bash
# Is there room for the checkpoints before a job begins? Sourced by slurm.sh, which sets what is used here.
# shellcheck disable=SC2154
set -u

# config_value SECTION KEY: from --set, else from the configuration; empty: not there. For simple values on their own lines.
config_value() {
    local option value='' previous='' file
    for option in "${program_options[@]}"; do
        [[ $previous != --set ]] || option=--set=$option
        [[ $option != "--set=$1.$2="* ]] || value=${option#*=*=}
        previous=$option
    done
    file=$(option_value --config)
    [[ -n $file ]] || file=$(option_value --out)/config.toml
    [[ -n $value || ! -f $file ]] || value=$(awk -v section="$1" -v key="$2" '
        { sub(/[ \t]*#.*/, "") }
        /^[ \t]*\[/ { gsub(/[][ \t]/, ""); current = $0; next }
        {
            at = index($0, "=")
            if (at == 0) next
            name = substr($0, 1, at - 1)
            gsub(/[ \t]/, "", name)
            if (current != "") name = current "." name
            if (name == section "." key) { print substr($0, at + 1); exit }
        }' "$file")
    tr -d ' \t"' <<<"$value"
}

# MiB of a checkpoint: the run's latest, else what parameters and momentum take (deeplab-train --dry-run counts them).
checkpoint_mib() { # RUN
    if [[ -f $1/checkpoints/latest.h5 ]]; then
        echo $(($(wc -c <"$1/checkpoints/latest.h5") / 1048576 + 1))
        return
    fi
    case $(config_value model backbone) in
        resnet18) echo 128 ;;
        resnet50) echo 310 ;;
        *) echo 456 ;;
    esac
}

# The checkpoints that are kept, the best, and the one that is being written.
check_space() {
    [[ ${DEEPLAB_SPACE_CHECK:-1} != 0 ]] || return 0
    local run keep one there needed free folder
    run=$(option_value --out)
    [[ -n $run ]] || return 0
    keep=$(config_value checkpoint keep)
    [[ $keep =~ ^[0-9]{1,4}$ ]] || keep=3
    one=$(checkpoint_mib "$run")
    there=$({ find "$run/checkpoints" -name 'step-*.h5' -size +1M 2>/dev/null || true; } | wc -l)
    needed=$((one * (keep + 2 > there ? keep + 2 - there : 1)))
    folder=$run
    while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
    free=$(df -PBM "$folder" 2>/dev/null | awk 'NR == 2 { print int($4) }')
    [[ -n $free ]] || return 0
    ((free >= needed)) || fail 2 "$folder has $free MiB free, and the run's checkpoints need $needed (each $one MiB; $keep are" \
        "kept, with the best and the one being written) — the run would stop at a full disk — free space, choose another" \
        "--out, or --set checkpoint.keep=1; DEEPLAB_SPACE_CHECK=0 starts regardless"
}
