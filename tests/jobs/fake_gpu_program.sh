#!/usr/bin/env bash
# Stands in for every program that gpu_check.sh starts (gpu_check_test.sh links it under their names): what it does on a line
# stands in $FAKE/LINE, else it succeeds. Its processes are listed in $FAKE/processes.
# shellcheck disable=SC2016,SC2154  # other shells expand it; gpu_check.sh sets check_results
set -uo pipefail
name=${0##*/} line=${DEEPLAB_CHECK_PROCESS##*.}
me() { echo "$BASHPID" >>"$FAKE/processes"; }
me
: >"$FAKE/$line.started"

behaviour=works
[[ ! -f $FAKE/$line ]] || behaviour=$(<"$FAKE/$line")
case $behaviour in
    works) ;;
    fails) echo "error: \"three\" — is not \\ four" && exit 3 ;;
    no-gpu) echo "no usable driver on this machine" >&2 && exit 4 ;;
    crashes) kill -SEGV "$BASHPID" ;;
    hangs) exec sleep 1000 ;;
    ignores-term)
        trap '' TERM
        echo "cannot be asked"
        while :; do sleep 0.2; done
        ;;
    forks)
        for _ in {1..20}; do (trap '' TERM && me && exec sleep 1000) & done
        ;;
    daemon) # out of its group and session, output closed
        (setsid bash -c 'cd / && echo $$ >>"$FAKE/processes" && exec sleep 1000' >/dev/null 2>&1 </dev/null &)
        ;;
    bare-daemon) # out of its session, without its environment
        (env -i FAKE="$FAKE" setsid bash -c 'echo $$ >>"$FAKE/processes" && exec sleep 1000' &)
        ;;
    fills)
        head -c 1G /dev/zero >big || exit
        echo "nothing stopped it"
        ;;
    talks) exec head -c 1G /dev/zero ;;
    binary) head -c 100000 /dev/urandom && printf '\n\033[31mred\033[0m\a\n' && exit 1 ;;
    many-files) for i in {1..500}; do echo "$i" >"$check_results/f$i.txt"; done ;;
    large-files) for i in {1..20}; do head -c 3M /dev/urandom >"$check_results/large$i.json"; done ;;
    odd-names) echo 1 >"$check_results/a name.txt" && ln -s /etc/passwd "$check_results/link.txt" && mkfifo "$check_results/pipe.txt" ;;
esac

value_of() { # OPTION options…: what follows it
    local option=$1
    while shift && (($#)); do [[ $1 != "$option" ]] || { echo "${2-}" && return; }; done
}
json=$(value_of --json "$@")
case $name in
    deeplab-bench)
        batch=$(value_of --batch "$@")
        [[ -z $json ]] || printf '{\n "step_resnet101_513_batch%s_ranks1_bf16_ms": 20.5\n}\n' "$batch" >"$json"
        printf 'engines: 0 timed, 17 known\nstep: 20.5 ms\n'
        ;;
    deeplab-plan-check)
        [[ $1 != current ]] || { printf '{"deviceName": "a fake"}\n' && echo "a fake, driver 1" >&2 && exit; }
        echo "5 distinct convolution passes, 0 without a plan" >&2
        ;;
    deeplab-train)
        run=$(value_of --out "$@")
        mkdir -p "$run" && for i in {1..20}; do printf '{"step": %d, "loss": %d.5}\n' "$i" "$i"; done >"$run/metrics.jsonl"
        echo "done, state abc123"
        ;;
    mpirun) while [[ $1 != */deeplab-train ]]; do shift; done && exec "$@" ;;
    deeplab-pack) out=$(value_of --out "$@") && mkdir -p "$out" && echo '{}' >"$out/$(value_of --split "$@").json" ;;
    gpu_tests | cuda_tests) echo '[  PASSED  ] 3 tests.' ;;
    python3)
        [[ ${1-} != - ]] || exec "$FAKE/real-python3" "$@"
        [[ -z $json ]] || printf '{"mode": "%s", "step_ms": 41.0}\n' "$([[ $* == *--compile* ]] && echo compile || echo eager)" >>"$json"
        ;;
    ncu)
        printf '"ID","Kernel Name","gpu__time_duration.sum","dram__bytes.sum","dram__throughput.avg.pct_of_peak_sustained_elapsed","sm__throughput.avg.pct_of_peak_sustained_elapsed","sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed"\n"","","ns","byte","%%","%%","%%"\n"0","void act_kernel<float>(A<float>)","2,000","4,000,000","50.0","10.0","0.0"\n"1","void act_kernel<float>(A<float>)","1,000","2,000,000","80.0","10.0","0.0"\n' \
            >"$(value_of --log-file "$@")"
        ;;
    compute-sanitizer)
        [[ $1 != --help ]] || { echo "  --kernel-name arg  Filter" && exit; }
        [[ $* == *gpu-planted-error* ]] && echo "========= ERROR SUMMARY: 1 error" && exit 9
        ;;
    nvidia-smi)
        [[ $1 != -q ]] || exit 0
        trap '' TERM
        while :; do echo "2026/11/30 10:00:00.000, 1980, 3201, 650.00, 60, 99, 70000" && sleep 0.2; done
        ;;
esac
exit 0
