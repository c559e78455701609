# shellcheck shell=bash
# Is there room for the checkpoints before a run starts? The program says what they take. Sourced by slurm.sh, which sets what
# is used here.
# shellcheck disable=SC2154
set -u

mib() { echo $(($1 / 1048576 + ($1 % 1048576 > 0))); } # rounded up

check_space() {
    [[ ${DEEPLAB_SPACE_CHECK:-1} != 0 && -n $(option_value --out) ]] || return 0
    ! has_option --dry-run || return 0
    local needs status=0 free to_come
    pick_options --config --data --out --set --resume
    needs=$(as_one_rank "$program" "${picked[@]}" --dry-run --json </dev/null) || status=$?
    case $status in
        0) ;;
        2 | 3) fail "$status" "the run cannot start (above) — nothing was started" ;;
        *)
            say "$program ended with $status when it was asked what the run needs; the room for checkpoints is not looked at"
            return 0
            ;;
    esac
    free=$(json_value checkpoint_bytes_free <<<"$needs") to_come=$(json_value checkpoint_bytes_to_come <<<"$needs")
    [[ $free =~ ^[0-9]+$ && $to_come =~ ^[0-9]+$ ]] || return 0
    ((free >= to_come)) || fail 2 "$(option_value --out) has $((free / 1048576)) MiB free, and the run's checkpoints need" \
        "$(mib "$to_come") more (each $(mib "$(json_value checkpoint_bytes <<<"$needs")") MiB; at most" \
        "$(json_value checkpoints_at_once <<<"$needs") stand there at once) — the run would stop at a full disk — free space," \
        "choose another --out, or --set checkpoint.keep=1; DEEPLAB_SPACE_CHECK=0 starts regardless"
}
