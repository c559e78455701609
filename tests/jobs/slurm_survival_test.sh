#!/bin/bash
# Trainings that are preempted, lose a node, run out of time or meet another job on their folder, on a throw-away Slurm with
# two virtual nodes: each ends in the state of an uninterrupted run. Skipped without Slurm or without the programs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
source "$root/tests/jobs/slurm/cluster.bash"
for program in deeplab-train deeplab-pack deeplab-make-shapes; do
    [[ -x $built/bin/$program ]] || skip "$built/bin/$program is missing"
done
start_cluster 2
export DEEPLAB_BUILD=$built SBATCH_OUTPUT=job-%j.log
train=$root/jobs/train.sbatch

write_tiny_training 8 8
for split in train val; do
    "$built/bin/deeplab-pack" --voc drawn/VOCdevkit/VOC2012 --classes drawn/classes.toml --split $split --out shards \
        >pack.log 2>&1 || failed "packing: $(<pack.log)"
done
options=(--config tiny.toml --data shards --device cpu --threads 1)

# What hits a running job takes a second or two to arrive. So the trainings have as many steps as take five seconds on
# one processor of this machine without Slurm, which is about ten on two nodes that share it; three checkpoints among them.
"$built/bin/deeplab-train" "${options[@]}" --out probe >probe.log 2>&1 || failed "a training without Slurm: $(<probe.log)"
every=$(python3 -c '
import json, statistics
rates = [line["images_per_s"] for line in map(json.loads, open("probe/metrics.jsonl")) if "loss" in line]
print(max(8, round(5 * statistics.median(rates) / 4 / 3)))')
steps=$((3 * every))
tiny_configuration "$steps" "$every" >tiny.toml

steps_of() { if [[ -f $1/metrics.jsonl ]]; then grep -c '"loss"' "$1/metrics.jsonl" || true; else echo 0; fi; }
wait_for() { # WHAT TENTHS COMMAND…
    local i
    for ((i = 0; i < $2; ++i)); do
        if "${@:3}"; then return; fi
        sleep 0.1
    done
    failed "$1: not after $(($2 / 10)) s; the log: $(tail -n 20 "$log")"
}
has_steps() { (($(steps_of "$1") >= $2)); }
has_restarts() { [[ $(state Restarts) == "$1" ]]; }
has_state() { [[ $(state JobState) == "$1" ]]; }
hash_of() { sed -n 's/.*"step":'$steps',.*"state_hash":"\([0-9a-f]*\)".*/\1/p' "$1/metrics.jsonl" | tail -n 1; }
expect_whole() { # RUN WHAT: every step once, and the state of the uninterrupted run
    expect "$2: a line for each step" \
        [ "$(sed -n 's/.*"step":\([0-9]*\),"loss".*/\1/p' "$1/metrics.jsonl" | tr '\n' ' ')" = "$(seq $steps | tr '\n' ' ')" ]
    expect "$2: the state of an uninterrupted run" [ "$(hash_of "$1")" = "$reference" ]
}

# ---- two jobs on one run: the second is refused, the first is the uninterrupted run that the others are compared with
submit -N 1 --ntasks-per-node=2 "$train" "${options[@]}" --out first
first=$job first_log=$log
wait_for "the first steps" 600 has_steps first 1
submit -N 1 --ntasks-per-node=2 "$train" "${options[@]}" --out first
finish_with 60 2 "a second job on a run"
expect_text "is in use by a live job (host node1" "a second job on a run"
expect_text "job $first)" "a second job on a run"
expect "it is not requeued" [ "$(state Restarts)" = 0 ]
job=$first log=$first_log
finish_with 90 0 "the first job on the run"
reference=$(hash_of first)
expect "the hash of its state: $output" [ ${#reference} = 16 ]
expect "the program printed that hash" grep -q "^done: step $steps .* state $reference" "$log"
expect_whole first "the first job goes on undisturbed"

# ---- preemption: Slurm sends TERM, waits for the checkpoint, runs the urgent job, then the preempted one again
submit -N 2 --ntasks-per-node=1 "$train" "${options[@]}" --out preempted --stage /dev/shm/stage
preempted=$job preempted_log=$log
wait_for "the first steps" 600 has_steps preempted 3
submit -p urgent -N 2 --ntasks-per-node=1 --exclusive --wrap true
finish_with 60 0 "the urgent job"
job=$preempted log=$preempted_log
finish_with 90 0 "the preempted job"
expect "it was started again: $output" [ "$(state Restarts)" = 1 ]
expect_text "stopped early, continue with --resume" "the preempted job stopped with a checkpoint"
expect_whole preempted "the preempted job"
# Each node has a /dev/shm of its own.
for node in node1 node2; do
    expect "$node has one copy of the shards: $output" [ "$(lines "^stage: $node: copied .* to /dev/shm/stage/")" = 1 ]
    expect "$node uses it again: $output" [ "$(lines "^stage: $node: uses the copy /dev/shm/stage/")" = 1 ]
done
expect "the ranks read the copies: $output" grep -q -- "--data /dev/shm/stage/deeplab-job-$job " "$log"

# ---- preemption under mpirun: its daemons get TERM and end, with the ranks' last checkpoint or before it
DEEPLAB_LAUNCHER=mpirun submit -N 2 --ntasks-per-node=1 "$train" "${options[@]}" --out killed
killed=$job killed_log=$log
wait_for "the first checkpoint" 600 test -e killed/checkpoints/latest.h5
submit -p urgent -N 2 --ntasks-per-node=1 --exclusive --wrap true
finish_with 60 0 "the urgent job"
job=$killed log=$killed_log
finish_with 120 0 "the job preempted under mpirun"
expect "it was started again: $output" [ "$(state Restarts)" = 1 ]
expect "it went on from a checkpoint: $output" grep -q "resuming at step [1-9][0-9]* of $steps" "$log"
expect_whole killed "the job preempted under mpirun"

# ---- a node loses its power under mpirun, which sees that before Slurm does
DEEPLAB_LAUNCHER=mpirun submit -N 2 --ntasks-per-node=1 "$train" "${options[@]}" --out bereft
wait_for "the first checkpoint" 600 test -e bereft/checkpoints/latest.h5
wait_for "steps after it" 300 has_steps bereft $((every + 1))
power_off node2
wait_for "the job's second start" 900 has_restarts 1
"$root/tests/jobs/slurm/node.sh" "$cluster" node2
finish_with 120 0 "the job that lost a node"
# Rank 0 is told to end and may still save the last whole step: the run goes on there, or at its last checkpoint.
resumed=$(sed -n "s/.*resuming at step \([0-9]*\) of $steps.*/\1/p" <<<"$output" | head -n 1)
expect "the job that lost a node resumes at step $every or later: $output" test "${resumed:-0}" -ge "$every"
expect_text "waits up to 70 s for Slurm to notice" "mpirun ended first"
expect_whole bereft "the job that lost a node"

# ---- a node is set down under srun
submit -N 2 --ntasks-per-node=1 "$train" "${options[@]}" --out down
wait_for "the first checkpoint" 600 test -e down/checkpoints/latest.h5
scontrol update NodeName=node2 State=DOWN Reason=test
wait_for "the job's second start" 300 has_restarts 1
scontrol update NodeName=node2 State=RESUME 2>/dev/null || true # it may be back already
finish_with 120 0 "the job whose node was set down"
expect_whole down "the job whose node was set down"

# ---- out of time: the time budget stops the run, again and again; under mpirun, with copies of the shards for each start
tiny_configuration 100000 "$every" >slow.toml
DEEPLAB_LAUNCHER=mpirun DEEPLAB_TIME_MARGIN=52 submit -t 1 --signal=B:USR1@1 -N 2 --ntasks-per-node=1 "$train" --config slow.toml \
    --data shards --device cpu --threads 1 --out slow --stage /dev/shm/again --unstage
wait_for "the job's second start" 900 has_restarts 1
# However fast this machine is: a few steps remain for the second start.
stopped=$(sed -n 's/^ended: .* code 75 from -1 to //p' slow/attempts/*-start1.txt)
tiny_configuration $((stopped + 3)) "$every" >slow.toml
finish_with 150 0 "the job with little time"
restarts=$(state Restarts)
expect "each time at 75" [ "$(lines 'stopped early with a good checkpoint; requeued')" = "$restarts" ]
expect "a line for each step" [ "$(steps_of slow)" = $((stopped + 3)) ]
expect "a record of each start" [ "$(find slow/attempts -name "*-job$job-start*.txt" | wc -l)" = $((restarts + 1)) ]
expect "both nodes copied the shards at each start: $output" \
    [ "$(lines '^stage: node[12]: copied .* to /dev/shm/again/')" = $((2 * restarts + 2)) ]
expect "the last start was not stopped" \
    grep -q "^ended: .* code 0 from [0-9]* to $((stopped + 3))$" slow/attempts/*-start$((restarts + 1)).txt
for rank in 0 1; do
    expect "the record has rank $rank's place" \
        grep -q "^ *$rank  node$((rank + 1))  local 0  cores [0-9]" slow/attempts/*-start1.txt
done

# ---- a cancelled job stays cancelled
submit -N 2 --ntasks-per-node=1 "$train" "${options[@]}" --out cancelled
wait_for "the first steps" 600 has_steps cancelled 2
scancel "$job"
finish 60
expect "it stays cancelled" has_state CANCELLED
expect "it is not started again" [ "$(state Restarts)" = 0 ]
verdict
