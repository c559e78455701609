#!/bin/bash
# The job scripts outside Slurm: help, dry runs, refusals. Nothing is started but the scripts themselves.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
cd "$temporary"

# A build with programs that print what they got; asked what a run needs, with a run of six checkpoints of 128 MiB.
build=$temporary/a\ build
mkdir -p "$build/bin"
for program in deeplab-train deeplab-eval deeplab-pack; do
    cat >"$build/bin/$program" <<'PROGRAM'
#!/bin/bash
if [[ $* == *--json ]]; then
    echo "$*, job ${SLURM_JOB_ID:-none}" >asked
    printf '{\n  "checkpoint_bytes": 134217728,\n  "checkpoints_at_once": 6,\n'
    printf '  "checkpoint_bytes_to_come": 805306368,\n  "checkpoint_bytes_free": %s\n}\n' "${FREE:-99999999999}"
    exit "${STUB_ASKED:-0}"
fi
echo "${0##*/}: $*"
exit "${STUB_CODE:-0}"
PROGRAM
    chmod +x "$build/bin/$program"
done

for script in train eval pack; do
    run bash "$root/jobs/$script.sbatch" --help
    expect_status 0 "$script --help"
    expect_text "usage: sbatch" "$script --help"
    expect_text "example" "$script --help"

    run bash "$root/jobs/$script.sbatch" --dry-run --data 'a folder' --out run
    expect_status 0 "$script --dry-run"
    expect_text "srun --mpi=pmix --nodes=1 --ntasks=1 " "$script --dry-run"
    expect_text "$root/build/bin/deeplab-$script --data a\\ folder --out run" "$script --dry-run passes options on"

    run bash "$root/jobs/$script.sbatch" --data d
    expect_status 2 "$script outside Slurm"
    expect_text "not in a Slurm job" "$script outside Slurm"
done

# job [VARIABLE=VALUE…] SCRIPT OPTION…: the command that a job with these variables would run.
job() { run env SLURM_JOB_ID=1 "$@"; }
train=$root/jobs/train.sbatch
workstation=$root/jobs/workstation.sh

job SLURM_JOB_NUM_NODES=2 SLURM_GPUS_ON_NODE=4 SLURM_CPUS_ON_NODE=64 bash "$train" --dry-run --config c.toml
expect_text "--nodes=2 --ntasks=8 --cpus-per-task=16 --ntasks-per-node=4 --gpus-per-node=4 " "a rank per GPU"
expect_text "--config c.toml --resume" "train always resumes"
job SLURM_JOB_NUM_NODES=3 SLURM_CPUS_ON_NODE=48 bash "$train" --dry-run
expect_text "--nodes=3 --ntasks=3 --cpus-per-task=48 --ntasks-per-node=1 " "a rank per node without GPUs"
expect_no_text "gpu" "no GPUs are asked for without GPUs"
job SLURM_JOB_NUM_NODES=2 SLURM_GPUS_ON_NODE=4 SLURM_CPUS_ON_NODE=64 SLURM_NTASKS=4 SLURM_NTASKS_PER_NODE=2 \
    bash "$train" --dry-run
expect_text "--ntasks=4 --cpus-per-task=32 --ntasks-per-node=2 " "--ntasks-per-node is obeyed"
job SLURM_JOB_NUM_NODES=2 SLURM_CPUS_ON_NODE=3 SLURM_NTASKS=3 SLURM_CPUS_PER_TASK=2 bash "$train" --dry-run
expect_text "--nodes=2 --ntasks=3 --cpus-per-task=2 " "-n and -c are obeyed"
expect_no_text "--ntasks-per-node" "-n leaves the distribution to Slurm"
job SLURM_GPUS_ON_NODE=4 SLURM_CPUS_ON_NODE=1 bash "$train" --dry-run
expect_status 2 "fewer cores than GPUs"
expect_text "--ntasks-per-node=4" "fewer cores than GPUs: what to do"
job SLURM_JOB_NUM_NODES=two bash "$train" --dry-run
expect_status 2 "a number of nodes that is none"

job DEEPLAB_LAUNCHER='mpirun --mca btl self,tcp' SLURM_JOB_NUM_NODES=2 SLURM_GPUS_ON_NODE=4 bash "$train" --dry-run
expect_text "mpirun --mca btl self\\,tcp -np 8 --map-by ppr:4:node --bind-to none " "mpirun as launcher"
job DEEPLAB_LAUNCHER='srun --mpi=pmi2' bash "$train" --dry-run
expect_text "srun --mpi=pmi2 --nodes=1" "flags of the launcher"
job DEEPLAB_LAUNCHER=aprun bash "$train" --dry-run
expect_status 2 "an unknown launcher"

job DEEPLAB_BUILD="$build" bash "$train" --dry-run
expect_text "${build// /\\ }/bin/deeplab-train" "DEEPLAB_BUILD"
job DEEPLAB_BUILD=elsewhere bash "$train" --dry-run
expect_text "$root/elsewhere/bin/deeplab-train" "a relative DEEPLAB_BUILD is the checkout's"
job DEEPLAB_BUILD=elsewhere bash "$train"
expect_status 2 "a missing program"
expect_text "elsewhere/bin/deeplab-train is missing" "a missing program"

# The options of the scripts' tables.
run bash "$train" --help
expect_text "  --stage DIR  copies the shards to a folder on each node's own disk" "--help has the table's options"
expect_text "  --           all that follows" "--help has what ends them"
expect_no_text "default: 0" "--help has no default of a switch"
run bash "$workstation" --help
expect_text "  -n, -np RANKS   number" "--help has both names"
expect_text "(default: deeplab-train)" "--help has the default"
expect "--help fits a terminal: $output" [ "$(wc -L <<<"$output")" -le 120 ]
run bash "$train" --dry-run --stage
expect_status 2 "an option without its value"
expect_text "--stage lacks its DIR" "an option without its value"
run bash "$train" --dry-run=yes
expect_status 2 "a switch with a value"
run bash "$train" --dry-run --unstage --stage=/a --stge b
expect_text "deeplab-train --stge b --resume" "what the table lacks goes to the program, the rest does not"
run bash "$root/jobs/reproduce_voc.sh" --frob
expect_status 2 "an option that a script without a program lacks"
expect_text "it has: --preset, --set, --iterations, --checkpoint, --device, -n, --slurm, --nodes, --dry-run, --help" \
    "what it has"
run bash "$root/jobs/quickstart.sh" --voc=nowhere
expect_text "--voc nowhere is not a folder" "NAME=VALUE"

run bash "$train" --dry-run -- --config c.toml --dry-run --help
expect_text "--config c.toml --dry-run --help --resume" "what follows -- goes to the program"
run bash "$train" --dry-run --resume --config c.toml
expect_text "--resume --config c.toml" "--resume of the user"
expect_no_text "c.toml --resume" "--resume is not doubled"

# The site file.
cat >site.sh <<'SITE'
echo "$a_variable_that_is_not_set" >/dev/null # as `module` does
false
export DEEPLAB_LAUNCHER="srun --mpi=pmix_v4" STUB_CODE=3
SITE
run env DEEPLAB_SITE=site.sh bash "$train" --dry-run
expect_status 0 "a site file"
expect_text "srun --mpi=pmix_v4" "a site file's launcher"
for site in example plain workstation; do
    run env DEEPLAB_SITE=$site bash "$train" --dry-run
    expect_status 0 "the site file $site by its name"
done
# shellcheck disable=SC2016
run env -u BASH_ENV DEEPLAB_SITE=modules DEEPLAB_MODULES="a b" bash -c 'module() { echo "module: $*"; }; export -f module
    exec bash "$0" --dry-run' "$train"
expect_status 0 "the site file modules"
expect_text "module: load a b" "the site file modules"
expect_text "mpirun -np 1" "the site file modules"
run env DEEPLAB_SITE=nowhere bash "$train" --dry-run
expect_status 2 "a site file that is missing"
echo 'return 5' >broken.sh
run env DEEPLAB_SITE=./broken.sh bash "$train" --dry-run
expect_status 2 "a site file that fails"

# sbatch's copy of the script finds the checkout.
cp "$train" slurm_script
run env SLURM_SUBMIT_DIR="$root" bash slurm_script --dry-run
expect_text "$root/build/bin/deeplab-train" "SLURM_SUBMIT_DIR"
run env SLURM_SUBMIT_DIR="$root/jobs" bash slurm_script --dry-run
expect_text "$root/build/bin/deeplab-train" "submitted from jobs/"
run env SLURM_SUBMIT_DIR=/ DEEPLAB_ROOT="$root" bash slurm_script --dry-run
expect_text "$root/build/bin/deeplab-train" "DEEPLAB_ROOT"
run env SLURM_SUBMIT_DIR=/ bash slurm_script --dry-run
expect_status 2 "no checkout"
expect_text "DEEPLAB_ROOT" "no checkout: what to do"

# A job's course, with a launcher and a scontrol of our own.
mkdir fake
cat >fake/srun <<'SRUN'
#!/bin/bash
if [[ $1 == --version ]]; then
    echo "srun of a test"
    exit
fi
[[ ${!#} != true ]] || exit "${DEAD:-0}" # do the nodes answer?
while [[ $1 != */bin/deeplab-* && $1 != */place.sh && $1 != */stage_node.sh ]]; do shift; done
exec "$@"
SRUN
cat >fake/scontrol <<'SCONTROL'
#!/bin/bash
echo "$*" >>"$SCONTROL_LOG"
[[ $1 != --version ]] || echo "slurm-wlm ${VERSION:-22.05.8}"
case "$*" in
    "show config") printf 'PreemptType             = %s\nSlurmdTimeout = 10 sec\n' "${PREEMPT:-preempt/partition_prio}" ;;
    "show partition some") echo "   PreemptMode=${MODE:-REQUEUE}" ;;
esac
[[ $1 != show ]] || echo "   Partition=some StartTime=2026-01-01T00:00:00 PreemptTime=${PREEMPTED:-None} JobState=${STATE:-RUNNING} Requeue=${REQUEUE:-1} Restarts=0 EndTime=${END:-Unknown} JobName=some"
SCONTROL
cat >fake/sbatch <<'SBATCH'
#!/bin/bash
echo "$*" >"$SCONTROL_LOG.sbatch"
env >"$SCONTROL_LOG.environment"
exit "${STUB_SBATCH:-0}"
SBATCH
chmod +x fake/*
submit() {
    rm -f scontrol.log
    run env PATH="$PWD/fake:$PATH" SCONTROL_LOG="$PWD/scontrol.log" SLURM_JOB_ID=7 DEEPLAB_BUILD="$build" "$@"
}
for code in 0 2 3 4; do
    submit STUB_CODE=$code bash "$train" --config c.toml
    expect_status $code "exit code $code is the job's"
    expect_text "deeplab-train: --config c.toml --resume" "the program ran"
    expect "exit code $code does not requeue" bash -c '! grep -q ^requeue scontrol.log'
done
submit STUB_CODE=75 bash "$train"
expect_status 75 "exit code 75 is the job's"
expect "exit code 75 requeues" grep -q '^requeue 7$' scontrol.log
submit STUB_CODE=75 REQUEUE=0 SLURM_JOB_NUM_NODES=2 SLURM_NTASKS_PER_NODE=3 SLURM_CPUS_ON_NODE=6 bash "$train" --out 'a run'
expect_status 75 "exit code 75 where requeue is off"
expect_text "was submitted" "where requeue is off"
expect "nothing is requeued where it is off" bash -c '! grep -q ^requeue scontrol.log'
expect "the new job has the old one's shape and options" \
    grep -q -- "--no-requeue --dependency=afterany:7 --nodes=2 --job-name=some --partition=some --ntasks-per-node=3 .*/train.sbatch --out a run$" \
    scontrol.log.sbatch
expect "the new job does not inherit the shape" bash -c '! grep -q ^SLURM_NTASKS scontrol.log.environment'
submit STUB_CODE=75 REQUEUE=0 STUB_SBATCH=1 bash "$train"
expect_status 75 "where requeue is off, and sbatch fails"
expect_text "submit the same command again" "where requeue is off, and sbatch fails"
submit STUB_CODE=75 STATE=CANCELLED bash "$train"
expect_text "the job is CANCELLED" "a cancelled job"
expect "a cancelled job is not requeued" bash -c '! grep -q ^requeue scontrol.log'
# Slurm 24.05 and later requeue a preempted job where the partition says so: the script must not, too.
at=2026-01-01T00:05:00
submit STUB_CODE=75 PREEMPTED=$at VERSION=24.05.1 bash "$train"
expect_text "requeues it: job 7 continues" "preempted under a Slurm that requeues"
expect "Slurm's requeue is the only one" bash -c '! grep -q ^requeue scontrol.log'
for other in VERSION=23.11.4 PREEMPTED=2025-12-31T23:00:00 MODE=CANCEL PREEMPT=preempt/qos; do
    submit STUB_CODE=75 PREEMPTED=$at VERSION=24.11.5 "$other" bash "$train"
    expect "with $other the script requeues" grep -q '^requeue 7$' scontrol.log
done
# The mpirun of Open MPI 5 ends with 0 when it has lost a node.
printf '#!/bin/bash\nexit 0\n' | tee fake/mpirun >fake/sleep
chmod +x fake/mpirun fake/sleep
two=(DEEPLAB_LAUNCHER=mpirun SLURM_JOB_NUM_NODES=2 SLURM_NTASKS_PER_NODE=1)
submit "${two[@]}" bash "$train"
expect_status 0 "both nodes answer: it has done its work"
submit "${two[@]}" DEAD=1 bash "$train"
expect_status 4 "a node does not answer"
expect_text "waits up to 70 s for Slurm to notice" "a node does not answer"
submit "${two[@]}" PREEMPTED=$at bash "$train"
expect "a preempted job may have lost a node" grep -q '^requeue 7$' scontrol.log
rm fake/mpirun fake/sleep
submit STUB_CODE=75 DEEPLAB_REQUEUE=0 bash "$train"
expect "DEEPLAB_REQUEUE=0 does not requeue" bash -c '! grep -q ^requeue scontrol.log'

# The record of a start, and two starts that lead nowhere.
mkdir -p run/checkpoints
ln -s step-0000040.h5 run/checkpoints/latest.h5
submit STUB_CODE=75 NCCL_DEBUG=INFO SLURM_JWT=hidden1 NCCL_TOKEN=hidden2 OMPI_MCA_url=http://me:hidden3@host/ \
    bash "$train" --out run
expect "the first of two starts requeues" grep -q '^requeue 7$' scontrol.log
record=$(cat run/attempts/*-job7-start1.txt)
for part in "checkpoint before: 40" "source: $(git -C "$root" rev-parse HEAD)" "launcher: srun of a test" "JobState=RUNNING" "    0  $(hostname)  local 0  cores " \
    "NCCL_DEBUG=INFO" "$root/jobs/" "code 75 from 40 to 40"; do
    [[ $part != "$root/jobs/" ]] || part="/bin/deeplab-train --out run --resume"
    if [[ $record == *"$part"* ]]; then passed; else failed "the record lacks \"$part\": $record"; fi
done
if [[ $record != *hidden* ]]; then passed; else failed "the record has a secret: $record"; fi
submit STUB_CODE=75 SLURM_RESTART_COUNT=1 bash "$train" --out run
expect_text "no step further" "the second of two starts that lead nowhere"
expect "it does not requeue" bash -c '! grep -q ^requeue scontrol.log'
submit STUB_CODE=2 bash "$train" --out refused
expect "a start that was refused leaves no folder" [ ! -e refused ]

# Room for the checkpoints: the program is asked, alone, before the ranks start.
submit FREE=805306367 bash "$train" --config c.toml --device cuda --set a=1 --set=b=2 --trace t.json --out new/run
expect_status 2 "too little space"
expect_text "767 MiB free, and the run's checkpoints need 768 more (each 128 MiB; at most 6 stand" "too little space"
expect "nothing is made" [ ! -e new ]
expect "it was asked with what decides: $(<asked)" \
    [ "$(<asked)" = "--config c.toml --set a=1 --set=b=2 --out new/run --resume --dry-run --json, job none" ]
submit FREE=805306368 bash "$train" --config c.toml --out new/run
expect_status 0 "just enough space"
submit FREE=805306367 DEEPLAB_SPACE_CHECK=0 bash "$train" --config c.toml --out new/run
expect_status 0 "DEEPLAB_SPACE_CHECK=0"
submit FREE=null bash "$train" --config c.toml --out new/run
expect_status 0 "unknown space"
submit STUB_ASKED=3 bash "$train" --config c.toml --out new/run
expect_status 3 "a run that cannot start"
expect_text "nothing was started" "a run that cannot start"
submit STUB_ASKED=4 bash "$train" --config c.toml --out new/run
expect_status 0 "a program that cannot be asked"
expect_text "ended with 4 when it was asked" "a program that cannot be asked"
rm asked
submit bash "$train" --out new/run -- --dry-run
expect "the program's own dry run is not asked before" [ ! -e asked ]

# The time limit is the program's budget.
expect_budget() { # LEAST MOST WHAT
    local minutes=0
    [[ ! $output =~ --time-budget\ ([0-9.]+) ]] || minutes=${BASH_REMATCH[1]}
    expect "$3: $output" awk "BEGIN { exit !($minutes >= $1 && $minutes <= $2) }"
}
submit END="$(date -d '+1 hour' +%Y-%m-%dT%H:%M:%S)" bash "$train"
expect_budget 57 58 "the time budget is the limit less two minutes"
submit END="$(date -d '+1 hour' +%Y-%m-%dT%H:%M:%S)" DEEPLAB_TIME_MARGIN=600 bash "$train"
expect_budget 49 50 "DEEPLAB_TIME_MARGIN"
submit END="$(date -d '+2 minutes' +%Y-%m-%dT%H:%M:%S)" bash "$train"
expect_budget 0.5 1 "half of a short job"
submit END="$(date -d '+1 hour' +%Y-%m-%dT%H:%M:%S)" bash "$train" --time-budget 5
expect_text "deeplab-train: --time-budget 5 --resume" "the user's time budget stays"

# USR1 to the batch script reaches the program, whose code comes back.
cat >"$build/bin/deeplab-eval" <<'PROGRAM'
#!/bin/bash
trap 'exit 75' USR1
touch started
for _ in $(seq 100); do sleep 0.1; done
PROGRAM
env PATH="$PWD/fake:$PATH" SLURM_JOB_ID=7 DEEPLAB_BUILD="$build" DEEPLAB_REQUEUE=0 \
    bash "$root/jobs/eval.sbatch" >signal.log 2>&1 &
job=$!
for _ in $(seq 100); do
    [[ ! -f started ]] || break
    sleep 0.05
done
kill -USR1 "$job"
status=0
wait "$job" || status=$?
output=$(<signal.log)
expect_status 75 "USR1 reaches the program"

# The workstation.
cat >fake/nvidia-smi <<'SMI'
#!/bin/bash
for ((i = 0; i < ${GPUS:-0}; ++i)); do echo "GPU $i: some model (UUID: GPU-$i)"; done
SMI
chmod +x fake/nvidia-smi
here() { run env PATH="$PWD/fake:$PATH" "$@"; }
here GPUS=2 bash "$workstation" --dry-run --config c.toml
expect_status 0 "workstation --dry-run"
expect_text "mpirun -np 2 --bind-to none " "a rank per GPU"
expect_text "/build/bin/deeplab-train --config c.toml" "workstation passes options on"
expect_no_text "--resume" "workstation adds no option"
here GPUS=8 CUDA_VISIBLE_DEVICES=3,5,6 bash "$workstation" --dry-run
expect_text "mpirun -np 3 " "CUDA_VISIBLE_DEVICES limits the ranks"
here GPUS=2 bash "$workstation" -n 1 --dry-run
expect_text "mpirun -np 1 --bind-to none " "-n decides"
here GPUS=0 bash "$workstation" --dry-run
expect_status 2 "no GPU and no -n"
expect_text "-n RANKS" "no GPU and no -n: what to do"
for device in --device=cpu "--device cpu"; do
    # shellcheck disable=SC2086
    here GPUS=2 bash "$workstation" --dry-run $device
    expect_status 2 "$device and no -n"
done
here bash "$workstation" -n 1000 --dry-run
expect_text "--oversubscribe" "more ranks than cores"
here bash "$workstation" -n 1 --dry-run
expect_no_text "--oversubscribe" "one rank"
for bad in 0 x ""; do
    here bash "$workstation" -n "$bad" --dry-run
    expect_status 2 "-n \"$bad\""
done
here bash "$workstation" --dry-run -n
expect_status 2 "-n without a number"
here bash "$workstation" -n 1 --config c.toml
expect_status 2 "workstation without a build"
expect_text "is missing" "workstation without a build"
here bash "$workstation" --help
expect_status 0 "workstation --help"
expect_text "example:" "workstation --help"
here bash "$workstation" -n 2 --program deeplab-eval --dry-run --weights run
expect_text "/build/bin/deeplab-eval --weights run" "workstation --program"
here bash "$workstation" -n 2 --program
expect_status 2 "--program without a name"
here bash "$workstation" -n 2 --dry-run -- --dry-run -n 5
expect_text "-np 2 " "workstation: what follows -- goes to the program"
expect_text "deeplab-train --dry-run -n 5" "workstation: what follows -- goes to the program"
if command -v mpirun >/dev/null && mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    here DEEPLAB_BUILD="$build" STUB_CODE=3 timeout 60 bash "$workstation" -n 2 --config c.toml
    expect_status 3 "workstation: the program's exit code"
    expect_text "deeplab-train: --config c.toml" "workstation runs the program"

    # What stops it: the ranks get USR1, whatever the script gets.
    cat >"$build/bin/deeplab-train" <<'PROGRAM'
#!/bin/bash
[[ ! -e again ]] || { echo "second start: $*"; exit 0; }
trap 'exit 75' USR1
touch "started-$OMPI_COMM_WORLD_RANK"
if [[ $1 == --once ]]; then
    sleep 1
    touch again
    exit 75
fi
for _ in $(seq 200); do sleep 0.1; done
PROGRAM
    for signal in TERM HUP USR1; do
        rm -f started-* again
        DEEPLAB_BUILD=$build bash "$workstation" -n 2 --restart --config c.toml >signal.log 2>&1 &
        job=$!
        for _ in $(seq 200); do
            [[ ! -f started-0 || ! -f started-1 ]] || break
            sleep 0.05
        done
        kill "-$signal" "$job"
        status=0
        wait "$job" || status=$?
        output=$(<signal.log)
        expect_status 75 "workstation gets $signal"
        expect_no_text "starts again" "a workstation that was told to stop by $signal"
    done
    rm -f started-*
    DEEPLAB_BUILD=$build run timeout 60 bash "$workstation" -n 2 --restart --once
    expect_status 0 "workstation --restart"
    expect_text "second start: --once --resume" "workstation --restart"
fi

verdict
