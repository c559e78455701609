#!/usr/bin/env bash
# Everything that only a GPU can show, in a given time, and nothing of it can be lost. `--help` explains.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

# name limit needs what (gpu_check_line.sh has the commands), in the order of what a second tells. "needs": less time is not worth beginning with.
lines='device 20 2 driver, cuDNN, the device'\''s properties; one engine that is compiled at run time
smoke 40 5 ResNet-18, crop 33: fp32 and bf16, eager and as a graph; its start, stage by stage
first_engines 30 10 ResNet-101 at 513, batch 16, bf16: a step with the first engines that run
step_16 90 20 the same with engines found by timing: which, how fast, kept in a file
pytorch_eager 45 15 PyTorch'\''s step beside it, and the ratio
fixtures 60 15 every fixture of PyTorch'\''s, and the executor'\''s tests
engines 60 15 every engine of every convolution beside the reference, twice: values, bits, gaps
curves 75 20 20 losses of fp32, bf16 and NCCL beside the CPU'\''s; a graph beside single launches
ops 150 40 every op'\''s cases beside the reference, fp32 and bf16
layers_16 30 10 every node of the step, with the engines in the file: none is timed again
step_15 60 20 batch 15
step_31 75 25 batch 31
pytorch_compile 120 40 PyTorch'\''s torch.compile, batch 16
kernels 60 20 Nsight Compute: time, memory and tensor units of every kernel of a step, batch 4
sanitizer 75 20 compute-sanitizer: memory and races of own kernels, fp32 and bf16; a planted error is found
ranks 60 20 1, 2 and 3 ranks on one GPU, sums through host memory
plans 40 15 plans for all presets from the properties, without the device'

# What --out gets a copy of, beside the archive.
for_out=(verdicts.txt device.json step_16.json pytorch.jsonl convolutions.txt tuning_step_16.txt kernels.txt)

usage() {
    cat <<END
usage: benchmarks/gpu_check.sh all|LINE… --budget S --keep FILE [--bin DIR] [--out DIR]

Runs the lines below on this machine's first GPU, one after the other, and ends within S seconds and a few more, whatever the
programs do. A line's verdict (passed, FAILED, skipped, timed out) is printed as soon as it is known. After every line FILE is
made anew, whole at any time: all verdicts so far, what the lines printed, their figures, the engines that were found.

  --budget S   seconds for all of it. A line begins only where its "needs" is left, and ends at its limit or with the budget
  --keep FILE  the archive (.tar.xz or .tar.gz), below 16 MiB: long files are cut in their middle
  --bin DIR    the programs (default: bundle/bin, build/bundle/bin or build/bin of the folder above this script)
  --out DIR    also copies the verdicts and the main figures into DIR, at most 7 files, and begins with the engines and the
               step's time that an earlier call left there

Wants bash, the programs, and for some lines a python3 with PyTorch, ncu, compute-sanitizer (skipped where they are missing).
Set by the caller: PYTHON (python3); DEEPLAB_CHECK_PERCENT, limits and waits as a part of the usual ones (100);
DEEPLAB_CHECK_FILE_KIB, the largest file that a line may write (524288).

exit codes: 0 no line failed; 1 some failed or timed out; 2 wrong usage; 4 there is no GPU that the programs can use

line                limit  needs  (seconds)
END
    local name limit needs what
    while read -r name limit needs what; do printf '%-18s %6d %6d  %s\n' "$name" "$limit" "$needs" "$what"; done <<<"$lines"
}

refuse() {
    echo "gpu_check.sh: $1 — see --help" >&2
    exit 2
}

chosen=() budget='' keep='' bin='' out=''
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --budget | --keep | --bin | --out)
            (($# > 1)) || refuse "$1 takes a value"
            printf -v "${1#--}" %s "$2" && shift
            ;;
        all) mapfile -t chosen < <(cut -d ' ' -f 1 <<<"$lines") ;;
        *) grep -q "^$1 " <<<"$lines" || refuse "unknown argument $1" && chosen+=("$1") ;;
    esac
    shift
done
((${#chosen[@]})) || refuse "which lines? (all)"
[[ $budget =~ ^[1-9][0-9]{0,5}$ ]] || refuse "--budget takes whole seconds"
case $keep in
    *.tar.xz) compress=(xz -2 -T 0) ;;
    *.tar.gz) compress=(gzip -6) ;;
    *) refuse "--keep takes a file that ends in .tar.xz or .tar.gz" ;;
esac
command -v "${compress[0]}" >/dev/null || refuse "there is no ${compress[0]} here for $keep"
percent=${DEEPLAB_CHECK_PERCENT:-100} file_kib=${DEEPLAB_CHECK_FILE_KIB:-524288}
[[ $percent =~ ^[1-9][0-9]{0,3}$ && $file_kib =~ ^[1-9][0-9]*$ ]] || refuse "DEEPLAB_CHECK_… take whole numbers"
if [[ -z $bin ]]; then
    for bin in "$root/bundle/bin" "$root/build/bundle/bin" "$root/build/bin"; do [[ ! -x $bin/deeplab-bench ]] || break; done
fi
[[ -x $bin/deeplab-bench ]] || refuse "no programs in $bin: build them, or give --bin"
bin=$(cd "$bin" && pwd)
mkdir -p "$(dirname "$keep")" && keep=$(cd "$(dirname "$keep")" && pwd)/$(basename "$keep") || exit 2
if [[ -n $out ]]; then mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2; fi
work=$(mktemp -d) && work=$(cd -P "$work" && pwd) || exit 2
results=$work/results
mkdir -p "$results/logs" "$work/stage"
exec {say}>&2 2>"$results/gpu_check.log" # what bash itself says of processes that end by a signal

# What is left of a line is found in whatever group or session it hides: by a variable in its environment, or by the line's folder
# or log that it has open.
mark=DEEPLAB_CHECK_PROCESS
run_id=$$.$RANDOM$RANDOM.
processes_of() { # LINE, or * for all
    {
        timeout -k 1 3 grep -lzsaE "^$mark=${run_id//./\\.}${1/\*/.*}\$" /proc/[0-9]*/environ
        timeout -k 1 3 find /proc/[0-9]*/cwd /proc/[0-9]*/fd -lname "$work/in.$1" -o -lname "$work/in.$1/*" \
            -o -lname "$work/results/logs/$1.log" 2>/dev/null
    } | cut -d / -f 3 | sort -u
}
sweep() { # LINE: ends them; fails where some do not end
    local left _
    for _ in {1..20}; do
        mapfile -t left < <(processes_of "$1")
        ((${#left[@]})) || return 0
        kill -KILL "${left[@]}" 2>/dev/null
        sleep 0.05
    done
    return 1
}

# Waits for this script's end in a session of its own: where the script is killed, nothing that it began goes on, and no half
# archive stays.
# shellcheck disable=SC2317  # the next line calls it
outlive() {
    trap '' INT TERM HUP
    cat >/dev/null
    sweep '*'
    rm -rf "$work" "$keep.part"
}
exec {alive}> >(export -f processes_of sweep outlive && export mark run_id work keep && exec setsid bash -c outlive >/dev/null 2>&1)

look() { # at a clock that nobody sets: leaves `now`, in hundredths of a second since the start
    read -r now _ </proc/uptime
    now=$((10#${now/./} - began))
}
began=0
look
began=$now now=0
grace=$((2 * percent))  # from TERM to KILL
finish=$((3 * percent)) # what the end of a line and the archive take

# plain N: text without what a terminal would take for commands, lines of N characters.
plain() { LC_ALL=C sed -e 's/\xe2\x80\x94/-/g' -e 's/[^[:print:]]//g' | cut -c "1-$1"; }
last_line() { tail -c 8192 "$1" | tr '\r' '\n' | plain 100 | grep -v '^ *$' | tail -n 1; }

# --- the archive ------------------------------------------------------------------------------------------------------------
most_files=300 most_bytes=$((1 << 20)) most_bytes_together=$((13 << 20))
cut_middle() { # FROM TO SIZE
    head -c "$((most_bytes / 2))" "$1" >"$2" &&
        printf '\n[gpu_check.sh: %d of %d bytes left out]\n' "$(($3 - most_bytes))" "$3" >>"$2" &&
        tail -c "$((most_bytes / 2))" "$1" >>"$2"
}
# Verdicts and logs, then the rest, small ones first: it is long ones that are left out where all do not fit.
files_to_keep() { # size, tab, name
    find "$results" -maxdepth 1 -type f -name 'verdicts.*' -printf '%s\t%P\0'
    find "$results" -maxdepth 2 -type f -path '*/logs/*' -printf '%s\t%P\0' | sort -zn
    find "$results" -maxdepth 2 -type f ! -name 'verdicts.*' ! -path '*/logs/*' -printf '%s\t%P\0' | sort -zn
}
stage_all() {
    local to=$work/stage/gpu-check size name together=0 count=0 whole=()
    rm -rf "$to" && mkdir -p "$to/logs" || return
    while IFS=$'\t' read -r -d '' size name; do
        ((together += size < most_bytes ? size : most_bytes, ++count))
        if [[ ! $name =~ ^[A-Za-z0-9._/-]+$ ]] || ((together > most_bytes_together || count > most_files)); then
            printf '%q, %d bytes\n' "$name" "$size" >>"$to/left_out.txt"
            ((count < most_files + 100)) || break
        elif ((size <= most_bytes)); then
            whole+=("./$name")
        else
            mkdir -p "$to/$(dirname "$name")" && cut_middle "$results/$name" "$to/$name" "$size" || return
        fi
    done < <(files_to_keep)
    (cd "$results" && ulimit -f $((2 * most_bytes / 1024)) && cp --parents -- "${whole[@]}" "$to")
}
renew_archive() {
    if stage_all && tar -C "$work/stage" --sort=name --owner=0 --group=0 --numeric-owner -cf - gpu-check |
        "${compress[@]}" >"$keep.part" && timeout 10 sync "$keep.part" && mv -fT "$keep.part" "$keep"; then
        timeout 10 sync "$(dirname "$keep")"
    else
        rm -f "$keep.part"
        echo "gpu_check.sh: $keep could not be renewed: it is that of an earlier line" >&"$say"
    fi
    local name
    [[ -z $out ]] || for name in "${for_out[@]}"; do
        [[ ! -f $work/stage/gpu-check/$name ]] || cp "$work/stage/gpu-check/$name" "$out/"
    done
}

# --- a line -----------------------------------------------------------------------------------------------------------------
# alive_child PID: whether this shell's child is still there.
alive_child() { kill -0 "$1" 2>/dev/null; }
wait_for() { # PID HUNDREDTHS
    look
    local until=$((now + $2))
    while alive_child "$1"; do
        look
        ((now < until)) || return 1
        sleep 0.05
    done
}
child=
start() { # WHO LOG COMMAND…: in a session, a folder and under limits of its own; leaves `child`
    local who=$1 log=$2
    shift 2
    mkdir -p "$work/in.$who"
    (
        cd "$work/in.$who" || exit
        trap - PIPE
        exec {alive}>&- {say}>&-
        ulimit -c 0 -f "$file_kib"
        export "$mark=$run_id$who" TMPDIR=$work/in.$who
        exec setsid "$@"
    ) </dev/null >"$log" 2>&1 &
    child=$!
}
stop() { # PID WHO: its group is asked, then killed, then whatever else carries the mark
    kill -TERM -- "-$1" 2>/dev/null
    wait_for "$1" "$grace"
    kill -KILL -- "-$1" 2>/dev/null
    sweep "$2"
    wait_for "$1" 100
}

current='' failed=0
declare -A count=()
verdict() { # NAME VERDICT HUNDREDTHS NOTE
    local seconds
    printf -v seconds '%d.%02d' "$(($3 / 100))" "$(($3 % 100))"
    printf '%-18s %-10s %7s  %s\n' "$1" "$2" "$seconds" "$4" | tee -a "$results/verdicts.txt"
    local note=${4//\\/\\\\}
    printf '{"line": "%s", "verdict": "%s", "seconds": %s, "note": "%s"}\n' "$1" "$2" "$seconds" "${note//\"/\\\"}" \
        >>"$results/verdicts.jsonl"
    ((++count[${2// /_}]))
    if [[ $2 == FAILED || $2 == 'timed out' ]]; then failed=1; fi
}
run_line() { # NAME LIMIT
    local name=$1 log=$results/logs/$1.log from status=0 word note
    look
    from=$now current=$name
    start "$name" "$log" bash "$here/gpu_check_line.sh" "$name"
    local pid=$child
    if wait_for "$pid" "$2"; then
        wait "$pid" 2>/dev/null || status=$?
        case $status in 0) word=passed ;; 77) word=skipped ;; *) word=FAILED ;; esac
        sweep "$name"
    else
        word='timed out'
        stop "$pid" "$name"
    fi
    note=$(last_line "$log")
    ((status == 0 || status == 77)) || note="exit code $status: $note"
    ! alive_child "$pid" || note="still there after SIGKILL; $note"
    look
    verdict "$name" "$word" "$((now - from))" "$note"
    [[ $word == passed || $word == skipped ]] || tail -c 8192 "$log" | plain 150 | tail -n 12 | sed 's/^/    | /'
    timeout 5 rm -rf "$work/in.$name"
    current=
    line_status=$status
}

# shellcheck disable=SC2317  # called by the trap
interrupted() {
    trap '' INT TERM
    [[ -z $current ]] || { stop "$child" "$current" && verdict "$current" FAILED 0 "stopped with the script"; }
    renew_archive
    sweep '*'
    rm -rf "$work"
    exit 1
}
trap interrupted INT TERM
trap '' PIPE # nobody reads what is printed: the archive is made all the same

# --- all of it --------------------------------------------------------------------------------------------------------------
export DEEPLAB_SOURCE=$root OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PYTHON=${PYTHON:-python3}
export check_root=$root check_bin=$bin check_results=$results check_data=$work/data
if [[ -n $out ]]; then
    for name in convolutions.txt step_16.json; do [[ ! -f $out/$name ]] || cp "$out/$name" "$results/"; done
fi
if command -v nvidia-smi >/dev/null; then
    start sampler "$results/clocks.csv" nvidia-smi -l 1 --format=csv,nounits \
        --query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,memory.used
fi
printf '%-18s %-10s %7s  %s\n' line verdict seconds 'last line' | tee "$results/verdicts.txt"
renew_archive
no_gpu=0 skipped=0
for name in "${chosen[@]}"; do
    read -r _ limit needs _ < <(grep "^$name " <<<"$lines")
    look
    rest=$((budget * 100 - now - finish))
    if ((no_gpu)); then
        verdict "$name" skipped 0 "no GPU" && skipped=1
    elif ((rest < needs * percent)); then
        verdict "$name" skipped 0 "needs $needs s, and $((rest > 0 ? rest / 100 : 0)) are left" && skipped=1
    else
        ((skipped == 0)) || renew_archive
        run_line "$name" "$((rest < limit * percent ? rest : limit * percent))"
        renew_archive
        skipped=0
        [[ $name != device || $line_status != 4 ]] || no_gpu=1
    fi
done
sweep '*' || echo "gpu_check.sh: some processes did not end" >&"$say"
look
printf 'passed %d, FAILED %d, timed out %d, skipped %d; %d s; %s\n' "${count[passed]:-0}" "${count[FAILED]:-0}" \
    "${count[timed_out]:-0}" "${count[skipped]:-0}" "$((now / 100))" "$keep" | tee -a "$results/verdicts.txt"
renew_archive
rm -rf "$work"
if ((no_gpu)); then
    echo "gpu_check.sh: there is no GPU that the programs can use — nothing was checked" >&"$say"
    exit 4
fi
exit "$failed"
