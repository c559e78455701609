#!/bin/bash
# jobs/reproduce_voc.sh: refusals and dry runs, a stop and a Slurm with stubs, then the whole path with the programs of the
# build (DEEPLAB_BUILD) on a few images: real ones where DEEPLAB_TEST_DATA names them, else generated ones.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
cd "$temporary"
script=$root/jobs/reproduce_voc.sh

# ---- programs that leave what the real ones would
mkdir -p stubs/bin fake
cat >stubs/bin/deeplab-pack <<'STUB'
#!/bin/bash
while (($#)); do case $1 in --split) split=$2 ;; --out) out=$2 ;; esac; shift; done
printf '{\n  "split": "%s",\n  "records": 10582\n}\n' "$split" >"$out/$split.json"
STUB
cat >stubs/bin/deeplab-train <<'STUB'
#!/bin/bash
if [[ $* == *--keys* ]]; then
    printf '{\n  "model.backbone": "resnet101",\n  "data.train_split": "train_aug",\n  "data.val_split": "val",\n'
    printf '  "train.iterations": 30000\n}\n'
    exit
fi
echo "train: $*" >>"$STUB_LOG"
while (($#)); do case $1 in --out) out=$2 ;; esac; shift; done
mkdir -p "$out/checkpoints"
step=step-0030000.h5
[[ ${STUB_CODE:-0} == 0 ]] || step=step-0000007.h5
touch "$out/checkpoints/$step"
ln -sfn "$step" "$out/checkpoints/latest.h5"
ln -sfn "$step" "$out/checkpoints/best.h5"
exit "${STUB_CODE:-0}"
STUB
cat >stubs/bin/deeplab-eval <<'STUB'
#!/bin/bash
echo "eval: $*" >>"$STUB_LOG"
while (($#)); do case $1 in --json) json=$2 ;; --weights) weights=$2 ;; esac; shift; done
printf '{\n  "images": 1449,\n  "pixel_accuracy": 0.95,\n  "mean_pixel_accuracy": 0.875,\n  "miou": 0.79187,\n' >"$json"
printf '  "fwiou": 0.5,\n  "weights": "%s",\n  "weights_step": 30000\n}\n' "$weights" >>"$json"
STUB
chmod +x stubs/bin/*
export DEEPLAB_BUILD=$PWD/stubs

mkdir -p voc/VOC2012/JPEGImages
touch resnet101-5d3b4d8f.pth
reproduce() { run timeout 120 bash "$script" "$@"; }

reproduce --help
expect_status 0 "--help"
expect_text "examples:" "--help"
expect_text "resnet101-5d3b4d8f.pth" "--help says what WEIGHTS is"
reproduce -n 1 voc resnet101-5d3b4d8f.pth
expect_status 2 "no OUT"
reproduce -n 1 voc missing.pth out
expect_status 3 "weights that are missing"
expect_text "resnet101-5d3b4d8f.pth" "weights that are missing: what to do"
reproduce -n 1 nowhere resnet101-5d3b4d8f.pth out
expect_status 3 "no VOC folder"
expect_text "get_voc.sh" "no VOC folder: what to do"
for bad in "--preset none_such" "--checkpoint last" "-n 0" "--iterations many" "--lr 3" "--nodes" "--nodes x"; do
    # shellcheck disable=SC2086
    reproduce -n 1 voc resnet101-5d3b4d8f.pth out $bad
    expect_status 2 "$bad"
done
reproduce --device cpu voc resnet101-5d3b4d8f.pth out
expect_status 2 "no GPU and no -n"
expect_text "-n RANKS" "no GPU and no -n: what to do"
reproduce -n 2 --dry-run --set train.accumulation=2 --iterations 40 voc resnet101-5d3b4d8f.pth out
expect_status 0 "--dry-run"
expect_text "deeplab-pack --voc voc/VOC2012 --split train_aug --out $PWD/out/shards" "--dry-run packs"
expect_text "workstation.sh --program deeplab-train -n 2 -- --config $root/jobs/configs/voc_r101_reference.toml" "--dry-run trains"
expect_text "--init $PWD/resnet101-5d3b4d8f.pth --set train.accumulation=2 --set train.iterations=40 --resume" \
    "--dry-run: start and settings"
for protocol in full centre-crop; do
    expect_text "best.h5 --data $PWD/out/shards --split val --protocol $protocol " "--dry-run evaluates"
done
expect "refusals and dry runs write nothing" [ ! -e out ]
run env DEEPLAB_BUILD="$PWD/empty" bash "$script" -n 1 voc none out
expect_status 2 "no build"
expect_text "is missing" "no build"

# ---- with these programs
export STUB_LOG=$PWD/stub.log
: >"$STUB_LOG"
stubbed() { run env DEEPLAB_BUILD="$PWD/stubs" PATH="$PWD/fake:$PATH" timeout 120 bash "$script" "$@"; }
cat >fake/mpirun <<'FAKE'
#!/bin/bash
while (($#)) && [[ $1 != */bin/deeplab-* ]]; do shift; done # the job scripts start one of their own, too
exec "$@"
FAKE
chmod +x fake/*

STUB_CODE=75 stubbed -n 1 voc resnet101-5d3b4d8f.pth out
expect_status 75 "a training that stops early"
expect_text "the same call goes on" "a training that stops early"
expect "no result of a training that stopped" [ ! -e out/reproduction.md ]
STUB_CODE=4 stubbed -n 1 voc resnet101-5d3b4d8f.pth out
expect_status 4 "a training that fails"
stubbed -n 1 voc resnet101-5d3b4d8f.pth out
expect_status 0 "the call after a stop"
expect_text "| this run, protocol centre-crop | 95.00 | 87.50 | 79.19 | 50.00 |" "the table"
expect_text "| 94.77 | 88.48 | 79.19 | 90.53 |" "the reference's row"
expect_text "78.85" "the paper's figure"
expect_no_text "do not compare" "the published setting"
expect "it is JSON: $(<out/reproduction.json)" grep -q '"published_setting": true' out/reproduction.json
before=$(wc -l <"$STUB_LOG")
stubbed -n 1 voc resnet101-5d3b4d8f.pth out
expect_status 0 "a third call"
expect "a third call runs nothing: $(<"$STUB_LOG")" [ "$(wc -l <"$STUB_LOG")" = "$before" ]
stubbed -n 1 voc none out
expect_status 2 "other weights into the same folder"
stubbed -n 1 --set optimizer.lr=0.02 voc none other
expect_status 0 "from random values"
expect_text "do not compare: started from none, not resnet101-5d3b4d8f; --set optimizer.lr=0.02" "another setting"
expect "no --init for random values" grep -q 'train: .*/other/run --device auto --set optimizer.lr=0.02 --resume$' "$STUB_LOG"

# ---- a Slurm that runs a job at once and reports it for two more polls
cat >fake/sbatch <<'FAKE'
#!/bin/bash
echo "sbatch: $*" >>"$STUB_LOG"
while [[ $1 != *.sbatch ]]; do shift; done
program=deeplab-$(basename "$1" .sbatch)
shift
status=0
"$DEEPLAB_BUILD/bin/$program" "$@" || status=$?
echo "$status" >"$FAKE_SLURM/code"
echo 2 >"$FAKE_SLURM/polls"
echo '17;cluster'
FAKE
cat >fake/squeue <<'FAKE'
#!/bin/bash
polls=$(cat "$FAKE_SLURM/polls" 2>/dev/null || echo 0)
((polls != 1)) || { echo 1>&2 "slurm_load_jobs error: Unable to contact slurm controller"; echo 0 >"$FAKE_SLURM/polls"; exit 1; }
((polls > 0)) || { echo 1>&2 "slurm_load_jobs error: Invalid job id specified"; exit 1; }
echo $((polls - 1)) >"$FAKE_SLURM/polls"
echo RUNNING
FAKE
cat >fake/scontrol <<'FAKE'
#!/bin/bash
echo "JobId=17 JobState=FAILED ExitCode=$(<"$FAKE_SLURM/code"):0"
FAKE
chmod +x fake/*
mkdir slurm
export FAKE_SLURM=$PWD/slurm DEEPLAB_POLL_SECONDS=0.1
slurm() { stubbed --slurm --nodes 2 voc resnet101-5d3b4d8f.pth jobs-out; }
reproduce --dry-run -n 6 voc none dry
expect_text "-n 6 --" "-n on this machine"
stubbed --dry-run --slurm --nodes 3 -n 6 voc none dry
expect_text "sbatch --nodes=3 --ntasks=6 $root/jobs/train.sbatch --config" "-n by Slurm"
expect_no_text "--resume" "-n by Slurm: train.sbatch adds --resume"
STUB_CODE=75 slurm
expect_status 75 "a job that stopped early"
STUB_CODE=3 slurm
expect_status 3 "a job's exit code"
expect_text "train-17.log" "a job that failed: where its log is"
echo 2 >slurm/polls
before=$(grep -c '^sbatch: .*train.sbatch' "$STUB_LOG")
slurm
expect_text "waits for job 17 of an earlier call" "a job that still runs"
expect "… is not submitted again" [ "$(grep -c '^sbatch: .*train.sbatch' "$STUB_LOG")" = "$before" ]
slurm
expect_status 0 "the whole path by Slurm"
expect_text "train: job 17 is RUNNING" "the job's state"
expect "nodes and log: $(<"$STUB_LOG")" grep -q "^sbatch: --parsable --nodes=2 --output=$PWD/jobs-out/train-%j.log " "$STUB_LOG"
expect "the job script adds --resume itself" [ "$(grep -c '^train: .*jobs-out.*--resume' "$STUB_LOG")" = 0 ]
expect_text "79.19" "the table by Slurm"

# ---- the real programs
for program in deeplab-train deeplab-pack deeplab-eval deeplab-make-shapes; do
    if [[ ! -x $built/bin/$program ]] || ! command -v mpirun >/dev/null; then
        echo "skipped: the real programs ($built/bin/$program or mpirun is missing)"
        verdict
        exit
    fi
done
export DEEPLAB_BUILD=$built OMP_WAIT_POLICY=passive OMPI_MCA_mpi_yield_when_idle=1
real=few/VOCdevkit/VOC2012
if [[ -d ${DEEPLAB_TEST_DATA:-}/VOCdevkit/VOC2012 ]]; then
    echo "on real images"
    source=$DEEPLAB_TEST_DATA/VOCdevkit/VOC2012
    mkdir -p $real/ImageSets/Segmentation
    ln -s "$source/JPEGImages" "$source/SegmentationClassAug" $real
    head -n 8 "$source/ImageSets/Segmentation/train_aug.txt" >$real/ImageSets/Segmentation/train_aug.txt
    head -n 2 "$source/ImageSets/Segmentation/val.txt" >$real/ImageSets/Segmentation/val.txt
else
    echo "on generated images"
    "$built/bin/deeplab-make-shapes" --out few --train 8 --val 2 --size 64x64 >/dev/null
    cp -r $real/SegmentationClass $real/SegmentationClassAug # and so train_aug is what val does not list
fi
small=(-n 2 --device cpu --preset quickstart_cpu --set data.train_split=train_aug --set data.crop=33
    --set train.global_batch=4 --set train.eval_every=0)
reproduce "${small[@]}" --iterations 2 few none first
expect_status 0 "the whole path"
expect_text "| this run, protocol full | " "the whole path: its table"
expect_text "the latest checkpoint stands for the best" "without evaluations"
expect_text "2 iterations, not 30000; 8 training images, not 10582; 2 validation images, not 1449" "what differs"
reproduce "${small[@]}" --iterations 3 few none first
expect_status 0 "a longer training on the same folder"
expect "it goes on where the first ended" [ "$(grep -c '"loss"' first/run/metrics.jsonl)" -ge 1 ]
expect "step 3 is evaluated: $(<first/reproduction.json)" grep -q '"step": 3' first/reproduction.json
if command -v python3 >/dev/null; then
    expect "its JSON is read" python3 -c 'import json; r = json.load(open("first/reproduction.json"))
assert r["published_setting"] is False and r["val_images"] == 2 and 0 <= r["centre_crop"]["miou"] <= 1, r'
fi
reproduce "${small[@]}" --iterations 1 --set optimizer.lrr=1 few none third
expect_status 2 "a key that does not exist: the program's exit code"

verdict
