#!/bin/bash
# benchmarks/gpu_check.sh with programs that work, fail, crash, hang, hide, or write without end: it ends in time, nothing of
# theirs goes on, and its archive is whole and has all verdicts so far, also where the script is killed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
command -v xz >/dev/null || skip "no xz"

export FAKE=$temporary/fake TMPDIR=$temporary/tmp
bin=$temporary/bin tools=$temporary/tools keep=$temporary/kept/results.tar.xz
mkdir -p "$FAKE" "$TMPDIR" "$bin" "$tools"
for name in deeplab-bench deeplab-plan-check deeplab-train deeplab-make-shapes deeplab-pack gpu_tests cuda_tests \
    gpu-planted-error mpirun; do
    ln -s "$root/tests/jobs/fake_gpu_program.sh" "$bin/$name"
done
for name in python3 nvidia-smi ncu compute-sanitizer; do ln -s "$root/tests/jobs/fake_gpu_program.sh" "$tools/$name"; done
ln -s "$(readlink -f "$(python3 -c 'import sys; print(sys.executable)')")" "$FAKE/real-python3"
export PATH=$tools:$PATH DEEPLAB_CHECK_PERCENT=6 DEEPLAB_CHECK_FILE_KIB=20000

behave() { # LINE=WHAT…: on each line; the others work
    find "$FAKE" -maxdepth 1 -type f -delete
    rm -rf "$temporary/kept" "$temporary/out"
    : >"$FAKE/processes"
    local pair
    for pair in "$@"; do echo "${pair#*=}" >"$FAKE/${pair%%=*}"; done
}
check() { # BUDGET LINE… options…
    local from=$EPOCHREALTIME
    run "$root/benchmarks/gpu_check.sh" --budget "$1" --keep "$keep" --bin "$bin" "${@:2}"
    took=$(((${EPOCHREALTIME/[.,]/} - ${from/[.,]/}) / 1000)) # ms
}
expect_verdict() { # LINE VERDICT TEXT: in what was printed and in the archive
    local pattern="^$1 +$2 .*$3"
    if grep -Eq "$pattern" <<<"$output" && grep -Eq "$pattern" "$temporary/gpu-check/verdicts.txt"; then
        passed
    else
        failed "$1: not \"$2 … $3\"; printed: $(grep "^$1 " <<<"$output"); archive: $(grep "^$1 " "$temporary/gpu-check/verdicts.txt")"
    fi
}
unpack() { # what the archive has, in $temporary/gpu-check
    rm -rf "$temporary/gpu-check"
    mkdir "$temporary/gpu-check"
    tar -xf "$keep" -C "$temporary" 2>"$temporary/tar.log" || failed "$1: the archive is broken: $(<"$temporary/tar.log")"
    touch "$temporary/gpu-check/verdicts.txt"
}
living() { # those of the fakes' processes that live
    local pid
    while read -r pid; do
        ! grep -Eqs '^State:.*[A-Y] ' "/proc/$pid/status" || printf '%s (%s) ' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
    done <"$FAKE/processes"
}
expect_none_left() { # WHAT
    local _
    for _ in {1..300}; do # what is killed takes a moment
        [[ -n $(living) || -n $(ls "$TMPDIR") ]] || break
        sleep 0.1
    done
    expect "$1: processes that go on: $(living)" test -z "$(living)"
    expect "$1: files that stay: $(ls "$TMPDIR")" test -z "$(ls "$TMPDIR")"
    expect "$1: a half archive" test ! -e "$keep.part"
}
wait_until() { # COMMAND…
    local _
    for _ in {1..200}; do
        ! "$@" || return 0
        sleep 0.05
    done
    failed "never: $*"
}

# --- usage
run "$root/benchmarks/gpu_check.sh" --help
expect_status 0 "help"
expect_text "step_16" "help names the lines"
for arguments in "" "all" "all --budget 10" "all --keep a.tar.xz" "all --budget x --keep a.tar.xz" "all --budget 9 --keep a.zip" \
    "all --budget 9 --keep a.tar.xz --bin $temporary" "frobnicate --budget 9 --keep a.tar.xz" "all --budget"; do
    read -ra words <<<"$arguments"
    run "$root/benchmarks/gpu_check.sh" "${words[@]}"
    expect_status 2 "arguments \"$arguments\""
done

# --- all works
behave
check 100 all --out "$temporary/out"
expect_status 0 "all work"
unpack "all work"
for line in device smoke first_engines step_16 fixtures engines curves ops layers_16 step_15 step_31 kernels sanitizer ranks plans; do
    expect_verdict $line passed ""
done
expect_verdict device passed "a fake, driver 1; the first program took [0-9]+ ms"
expect_verdict pytorch_eager passed "ratio 2.000: PyTorch eager 41.00 ms, ours 20.50 ms \(step_16\)"
expect_verdict pytorch_compile passed "ratio 2.000: PyTorch compile"
expect_verdict kernels passed "2 launches of 1 kernels, 0.00 ms"
expect_text "passed 17, FAILED 0, timed out 0, skipped 0" "all work"
expect "clocks" grep -q 1980 "$temporary/gpu-check/clocks.csv"
expect "files of --out: $(ls "$temporary/out")" test "$(find "$temporary/out" | wc -l)" -le 9 # with "." and the archive 8 files
expect "the step's figures" grep -q batch16 "$temporary/out/step_16.json"
expect_none_left "all work"

# --- everything that programs can do
behave smoke=fails step_16=crashes first_engines=ignores-term pytorch_eager=daemon fixtures=fills engines=talks curves=binary \
    layers_16=hangs step_15=forks step_31=bare-daemon pytorch_compile=many-files ranks=odd-names
check 100 all --out "$temporary/out"
expect_status 1 "all kinds"
unpack "all kinds"
expect_verdict device passed ""
expect_verdict smoke FAILED 'exit code 3: FAILED \(3\)'
expect_text '    | error: "three" - is not \ four' "the end of what a failed line printed"
expect_verdict step_16 FAILED "exit code 139"
expect_verdict first_engines "timed out" "cannot be asked"
expect_verdict pytorch_eager passed "ours was not measured"
expect_verdict fixtures FAILED ""
expect_verdict engines FAILED ""
expect_verdict curves FAILED '\[31mred\[0m'
expect_verdict layers_16 "timed out" ""
expect_verdict step_15 passed ""
expect_verdict step_31 passed ""
expect_verdict plans passed ""
expect_no_text "nothing stopped it" "a file-size limit"
expect_none_left "all kinds"
expect "the archive's files: $(find "$temporary/gpu-check" -type f | wc -l)" \
    test "$(find "$temporary/gpu-check" -type f | wc -l)" -le 301
expect "the archive's links" test -z "$(find "$temporary/gpu-check" ! -type f ! -type d)"
expect "a long log is cut" grep -aq "bytes left out" "$temporary/gpu-check/logs/engines.log"
expect "what does not fit is named" grep -q "f[0-9]*.txt, 4 bytes" "$temporary/gpu-check/left_out.txt"

# --- files that do not fit, odd names
behave kernels=large-files ranks=odd-names
keep=${keep%xz}gz
check 100 kernels ranks
expect_status 0 "large files"
unpack "large files"
bytes=$(stat -c %s "$keep")
expect "the archive's $bytes bytes" test "$bytes" -lt $((16 << 20))
expect "what does not fit is named" grep -q "large.*json, 3145728 bytes" "$temporary/gpu-check/left_out.txt"
expect "an odd name is named" grep -q 'a.* name.txt' "$temporary/gpu-check/left_out.txt"
expect "the archive's links" test -z "$(find "$temporary/gpu-check" ! -type f ! -type d)"
expect_none_left "large files"
keep=${keep%gz}xz

# --- the budget: what hangs, and lines for which too little is left
behave smoke=ignores-term first_engines=hangs step_16=ignores-term pytorch_eager=hangs
check 4 all
expect_status 1 "a short budget"
unpack "a short budget"
expect_verdict smoke "timed out" ""
expect_verdict plans skipped "needs 15 s, and 0 are left"
expect "a budget of 4 s took $took ms" test "$took" -lt 7000
expect_none_left "a short budget"

# --- no GPU
behave device=no-gpu
check 100 all
expect_status 4 "no GPU"
unpack "no GPU"
expect_verdict device FAILED "exit code 4: no usable driver on this machine"
expect_verdict plans skipped "no GPU"
expect_text "there is no GPU that the programs can use" "no GPU"
expect_none_left "no GPU"

# --- without Python and NVIDIA's tools
behave
mv "$tools" "$tools.away"
PYTHON=$temporary/none check 100 pytorch_eager kernels sanitizer curves
mv "$tools.away" "$tools"
unpack "no tools"
expect_verdict pytorch_eager skipped "skipped: no PyTorch"
expect_verdict kernels skipped "skipped: no ncu"
expect_verdict sanitizer skipped "skipped: no compute-sanitizer"
expect_verdict curves passed ""

# --- the script is killed while a line hangs
background() { # LINE…
    : >"$temporary/printed"
    "$root/benchmarks/gpu_check.sh" "$@" --budget 100 --keep "$keep" --bin "$bin" >"$temporary/printed" 2>&1 &
    script=$!
}
behave smoke=forks first_engines=ignores-term
background device smoke first_engines
wait_until test -e "$FAKE/first_engines.started"
kill -KILL "$script"
wait "$script" 2>/dev/null || true
output=$(<"$temporary/printed")
expect_none_left "SIGKILL"
unpack "SIGKILL"
expect_verdict device passed ""
expect_verdict smoke passed ""

# --- the script is told to end
behave first_engines=hangs
background device smoke first_engines
wait_until test -e "$FAKE/first_engines.started"
kill -TERM "$script"
status=0
wait "$script" || status=$?
output=$(<"$temporary/printed")
expect_status 1 "SIGTERM"
unpack "SIGTERM"
expect_verdict smoke passed ""
expect_verdict first_engines FAILED "stopped with the script"
expect_none_left "SIGTERM"

# --- the script is killed while it writes the archive
behave
cat >"$tools/xz" <<END
#!/bin/bash
$(command -v xz) -c >"\$FAKE/packed" && head -c 100 "\$FAKE/packed"
# The first archive is an empty one, the second that of "device".
echo >>"\$FAKE/archives"
(( \$(wc -l <"\$FAKE/archives") <= 2 )) || { touch "\$FAKE/half" && sleep 5; }
exec tail -c +101 "\$FAKE/packed"
END
chmod +x "$tools/xz"
background device smoke
wait_until test -e "$FAKE/half"
kill -KILL "$script"
wait "$script" 2>/dev/null || true
output=$(<"$temporary/printed")
rm "$tools/xz"
unpack "SIGKILL while the archive is written"
expect_verdict device passed ""
expect_none_left "SIGKILL while the archive is written"
verdict
