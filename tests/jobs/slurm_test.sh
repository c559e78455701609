#!/bin/bash
# The job scripts on a throw-away Slurm with two virtual nodes: first with programs that print where they run, then, when
# the build (DEEPLAB_BUILD) has them, with the real ones. Skipped without Slurm, root, or leave to make namespaces.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
source "$root/tests/jobs/slurm/cluster.bash"
start_cluster 2

# ---- programs that say where they run
stubs=$temporary/stubs
mkdir -p "$stubs/bin"
cat >"$stubs/bin/deeplab-train" <<'STUB'
#!/bin/bash
rank=${PMIX_RANK:-$OMPI_COMM_WORLD_RANK}
echo "rank=$rank node=$(hostname) gpus=${CUDA_VISIBLE_DEVICES:-} site=${OMP_WAIT_POLICY:-} options=$*"
case $1 in
    code) exit "$2" ;;
    once) # 75, and the next time 0
        [[ ! -e $2 ]] || exit 0
        sleep 2
        : >"$2"
        exit 75
        ;;
    stop) # on the first start: waits for the signal
        ((${SLURM_RESTART_COUNT:-0} == 0)) || exit 0
        trap 'sleep 0.$rank; exit 75' USR1
        : >"$2/started-$rank"
        for _ in $(seq 200); do sleep 0.1; done
        exit 1
        ;;
esac
STUB
chmod +x "$stubs/bin/deeplab-train"
cp "$stubs/bin/deeplab-train" "$stubs/bin/deeplab-pack"
cp "$stubs/bin/deeplab-train" "$stubs/bin/deeplab-eval"
export DEEPLAB_BUILD=$stubs SBATCH_OUTPUT=job-%j.log
jobs=$root/jobs

submit -N 2 "$jobs/train.sbatch" --config 'a b'
finish_with 20 0 "train on two nodes"
for rank in 0 1 2 3 4 5 6 7; do
    node=node$((rank / 4 + 1))
    expect "rank $rank is on $node and sees all GPUs: $output" \
        grep -q "^rank=$rank node=$node gpus=0,1,2,3 site=passive options=--config a b --resume --time-budget [1-4][.][0-9][0-9]$" "$log"
done
expect "eight ranks" [ "$(lines '^rank=')" = 8 ]

# Slurm 22.05 lets the command line overrule the script's --exclusive, 24.11 refuses the two together: as jobs/README.md says.
part=(-N 2 --gpus-per-node=2 --ntasks-per-node=2 --cpus-per-task=1)
submit "${part[@]}" --oversubscribe "$jobs/train.sbatch" x 2>refusal || true
if [[ -z $job ]]; then
    expect "the two options are why: $(<refusal)" grep -q 'mutually exclusive' refusal
    sed '/^#SBATCH --exclusive/d' "$jobs/train.sbatch" >part.sbatch
    submit "${part[@]}" part.sbatch x
fi
finish_with 20 0 "part of two nodes"
expect "four ranks: $output" [ "$(lines '^rank=.* gpus=0,1 ')" = 4 ]

DEEPLAB_LAUNCHER=mpirun submit -N 2 "$jobs/train.sbatch" x
finish_with 30 0 "mpirun as launcher"
expect "eight ranks with all GPUs: $output" [ "$(lines '^rank=.* gpus=0,1,2,3 ')" = 8 ]
expect "four ranks a node: $output" [ "$(lines '^rank=.* node=node2 ')" = 4 ]

submit "$jobs/pack.sbatch" x
finish_with 20 0 "pack"
expect "pack has four ranks on one node: $output" [ "$(lines '^rank=.* node=node[12] ')" = 4 ]

submit -N 2 -n 2 "$jobs/eval.sbatch" code 3
finish_with 20 3 "the program's exit code is the job's"

# The signal that comes before the time limit, sent by hand: Slurm's own may come up to a minute early.
signal_when_running() {
    local i
    for ((i = 0; i < 150; ++i)); do
        [[ ! -f started-0 || ! -f started-1 ]] || break
        sleep 0.1
    done
    rm -f started-*
    scancel --batch --signal=USR1 "$job"
}
submit -N 2 --ntasks-per-node=1 "$jobs/train.sbatch" stop "$temporary"
signal_when_running
for _ in $(seq 50); do # until the requeue is under way
    [[ $(state Restarts) != 1 ]] || break
    sleep 0.1
done
expect "exit code 75 requeues: $(<"$log")" [ "$(state Restarts)" = 1 ]
finish_with 25 0 "the requeued job"
expect "the log of both starts is kept: $output" [ "$(lines '^rank=')" = 4 ]

DEEPLAB_LAUNCHER=mpirun DEEPLAB_REQUEUE=0 submit -N 2 --ntasks-per-node=1 "$jobs/train.sbatch" stop "$temporary"
signal_when_running
finish_with 20 75 "the signal under mpirun"
expect "DEEPLAB_REQUEUE=0 does not requeue" [ "$(state Restarts)" = 0 ]

submit -N 2 --ntasks-per-node=1 --no-requeue "$jobs/train.sbatch" once "$temporary/stopped"
finish_with 20 75 "exit code 75 of a job that may not be requeued"
expect_text "was submitted: it continues" "exit code 75 of a job that may not be requeued"
if [[ $output =~ job\ ([0-9]+)\ was\ submitted ]]; then job=${BASH_REMATCH[1]}; fi
finish_with 20 0 "the job that was submitted instead"
expect "it has the old one's nodes: $(state NumNodes)" [ "$(state NumNodes)" = 2 ]
expect "the log of both: $output" [ "$(lines '^rank=')" = 4 ]

# ---- the real programs
for program in deeplab-train deeplab-pack deeplab-eval deeplab-make-shapes; do
    if [[ ! -x $built/bin/$program ]]; then
        echo "skipped: the real programs ($built/bin/$program is missing)"
        verdict
        exit
    fi
done
export DEEPLAB_BUILD=$built
write_tiny_training 4 2
for split in train val; do
    submit -n 2 "$jobs/pack.sbatch" --voc drawn/VOCdevkit/VOC2012 --classes drawn/classes.toml --split $split --out shards
    finish_with 30 0 "pack $split"
done
submit -N 2 --ntasks-per-node=1 "$jobs/train.sbatch" --config tiny.toml --data shards --out run --device cpu
finish_with 60 0 "a training on two nodes"
expect "its last checkpoint: $output" [ -e run/checkpoints/latest.h5 ]
expect "a line for each step" [ "$(grep -c '"loss"' run/metrics.jsonl)" = 4 ]
submit -N 2 --ntasks-per-node=1 "$jobs/eval.sbatch" --weights run --data shards --split val --device cpu --json result.json
finish_with 60 0 "an evaluation on two nodes"
expect "its result: $output" grep -q '"miou"' result.json
submit -N 2 --ntasks-per-node=1 "$jobs/train.sbatch" --config none.toml --data shards --out run2 --device cpu
finish_with 30 2 "a missing configuration"
expect_text "nothing was started" "a missing configuration: the program was asked before the ranks"
submit -N 2 --ntasks-per-node=1 "$jobs/train.sbatch" --config tiny.toml --data shards --out run3 --device cpu --threads -1
finish_with 30 2 "an option that the ranks refuse: the exit code comes through srun"
submit -N 2 --ntasks-per-node=1 "$jobs/train.sbatch" --config tiny.toml --data shards --out run4 --device cpu \
    --set checkpoint.keep=1000000
finish_with 30 2 "checkpoints for which there is no room"
expect_text "MiB free, and the run's checkpoints need" "checkpoints for which there is no room"
expect "a run without room leaves no folder" [ ! -e run4 ]

verdict
