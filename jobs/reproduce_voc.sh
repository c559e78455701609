#!/bin/bash
# The reference recipe from VOC and ImageNet weights to the four metrics beside the published ones. `--help` explains.
# shellcheck disable=SC2154  # take_options assigns
set -euo pipefail

usage() {
    cat <<END
usage: jobs/reproduce_voc.sh [options] VOC WEIGHTS OUT

Packs train_aug and val, trains, evaluates with both protocols, and writes pixel accuracy, mean pixel accuracy, mIoU and
frequency-weighted IoU beside the reference's and the paper's: OUT/reproduction.md, OUT/reproduction.json.

  VOC       VOC 2012 with SegmentationClassAug, as jobs/get_voc.sh leaves it: VOCdevkit/VOC2012 or a folder above it
  WEIGHTS   what to start from, anything that deeplab-train --init takes: for the published setting torchvision's ImageNet
            weights, resnet101-5d3b4d8f.pth (jobs/get_weights.sh); or safetensors, another .pth, a checkpoint, a run's
            folder; "none": random values
  OUT       shards/, run/ and the results

$(option_help)

A second call on the same OUT goes on where the first stopped: finished steps are left out, training resumes at its last
checkpoint, a Slurm job that still runs is waited for. Exit codes are the programs': 75 means call again.

examples:
  jobs/get_voc.sh data && jobs/get_weights.sh weights
  jobs/reproduce_voc.sh data weights/resnet101-5d3b4d8f.pth reproduction
  SBATCH_PARTITION=gpu SBATCH_TIMELIMIT=24:00:00 \\
      jobs/reproduce_voc.sh --slurm --nodes 2 data weights/resnet101-5d3b4d8f.pth reproduction
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=lib/slurm.sh
source "$root/jobs/lib/slurm.sh"

option_table=(
    "--preset NAME" preset voc_r101_reference "a file of jobs/configs without .toml, or a path"
    "--set KEY=VALUE" settings+ '' "a key of the configuration, as deeplab-train takes it; may be repeated"
    "--iterations N" iterations '' "--set train.iterations=N"
    "--checkpoint WHICH" which best "what is evaluated: best (on val, as the reference reports) or latest"
    "--device DEVICE" device auto "auto, cpu or cuda"
    "-n RANKS" ranks '' "number of ranks; without it one per GPU"
    "--slurm" slurm 0 "train and evaluate as Slurm jobs (jobs/train.sbatch, jobs/eval.sbatch); waits for them"
    "--nodes N" nodes 1 "nodes of these jobs"
    "--dry-run" dry_run 0 "prints the commands"
)
take_options refused "$@"
places=("${program_options[@]}")
((${#places[@]} == 3)) ||
    fail 2 "needs VOC, WEIGHTS and OUT, got ${#places[@]} — images, start and results have no default — see --help"
voc=${places[0]} weights=${places[1]} out=${places[2]}

# ---- before hours of work, not after
[[ -f $preset ]] || preset=$root/jobs/configs/$preset.toml
[[ -f $preset ]] || fail 2 "there is no preset $preset — the recipe is unknown — use one of:" \
    "$(cd "$root/jobs/configs" && grep -L '^\[\[class\]\]' -- *.toml | tr '\n' ' ')"
[[ $which == best || $which == latest ]] || fail 2 "--checkpoint $which — it is best or latest"
[[ -z $ranks ]] || require_number -n "$ranks" 1
if [[ -n $iterations ]]; then
    require_number --iterations "$iterations" 1
    settings+=("train.iterations=$iterations")
fi
require_number --nodes "$nodes" 1
found=
for folder in "$voc" "$voc/VOC2012" "$voc/VOCdevkit/VOC2012"; do
    [[ ! -d $folder/JPEGImages ]] || found=$folder
done
[[ -n $found ]] || fail 3 "$voc holds no VOC2012 with JPEGImages — there is nothing to train on — fetch it with" \
    "jobs/get_voc.sh DIR, and give DIR"
if [[ $weights != none && ! -e $weights ]]; then
    fail 3 "there are no weights $weights — from random values the result would be another — fetch" \
        "resnet101-5d3b4d8f.pth with jobs/get_weights.sh, or give safetensors," \
        "a checkpoint or a run's folder; or \"none\" to train from random values"
fi
if ((slurm)); then
    command -v sbatch >/dev/null ||
        fail 2 "--slurm, but there is no sbatch — no job can be submitted — load Slurm's module, or leave --slurm out"
else
    "$root/jobs/workstation.sh" ${ranks:+-n "$ranks"} --dry-run -- --device "$device" >/dev/null # are the ranks known?
fi

absolute() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s' "$PWD/$1"; fi; }
out=$(absolute "$out")
preset=$(absolute "$preset")
[[ $weights == none ]] || weights=$(absolute "$weights")
set_options=()
for one in "${settings[@]}"; do set_options+=(--set "$one"); done
require_program "$(program_path deeplab-train)"
allow_root
keys=$(as_one_rank "$(program_path deeplab-train)" --keys --json --config "$preset" "${set_options[@]}" \
    </dev/null)
key() { json_value "$1" <<<"$keys"; }
train_split=$(key data.train_split) val_split=$(key data.val_split)
iterations=$(key train.iterations) backbone=$(key model.backbone)
shards=$out/shards run=$out/run

# Two reproductions must not mix in one folder; what else may not change, deeplab-train refuses.
begun="$(cd "$found" && pwd)
$weights"
if [[ -e $out/begun-with.txt && $(<"$out/begun-with.txt") != "$begun" ]]; then
    fail 2 "$out was begun with $(paste -sd ' ' "$out/begun-with.txt") — the results would be of neither — choose another OUT"
fi
if ((!dry_run)); then
    mkdir -p "$shards" || fail 2 "cannot make the folder $shards — the results belong there — choose another OUT"
    require_program "$(program_path deeplab-pack)"
    require_program "$(program_path deeplab-eval)"
    printf '%s\n' "$begun" >"$out/begun-with.txt"
fi

# ---- running

of() { json_value "$2" <"$1"; } # FILE KEY

# in_steps WHAT COMMAND…: prints it in a dry run, else runs it; its exit code ends the script.
in_steps() {
    local status=0 command=("${@:2}")
    if ((dry_run)); then
        print_command
        return
    fi
    say "$1"
    "${command[@]}" || status=$?
    ((status != 75)) || say "stopped early with a good checkpoint: the same call goes on from there"
    ((status == 0)) || exit "$status"
}

# State of a job and why it is in it, empty when it has ended. A controller that does not answer has not ended it.
job_state() {
    local state
    state=$(squeue --noheader --format="%T %r" --jobs="$1" 2>&1) || [[ $state == *"Invalid job id"* ]] || state=UNKNOWN
    [[ $state == *"Invalid job id"* ]] || printf '%s' "$state"
}

# submitted NAME SCRIPT OPTIONS…: a Slurm job, or the one that an earlier call left behind; waits until it ends and leaves
# its exit code in `job_code`, 0 where Slurm no longer knows it.
submitted() {
    local name=$1 file=$out/$1.job job='' code state said=''
    shift
    if ((dry_run)); then
        command=(sbatch --nodes="$nodes" ${ranks:+--ntasks="$ranks"} "$@")
        print_command
        return
    fi
    [[ ! -s $file ]] || job=$(<"$file")
    if [[ -n $job && -n $(job_state "$job") ]]; then
        say "$name: waits for job $job of an earlier call"
    else
        job=$(cd "$root" && sbatch --parsable --nodes="$nodes" ${ranks:+--ntasks="$ranks"} --output="$out/$name-%j.log" "$@") ||
            fail 4 "sbatch refused the job (above) — nothing runs — correct SBATCH_ACCOUNT, SBATCH_PARTITION and the like"
        job=${job%%;*} # ";cluster" may follow
        printf '%s\n' "$job" >"$file"
        say "$name: job $job, its log: $out/$name-$job.log"
    fi
    while state=$(job_state "$job") && [[ -n $state ]]; do
        [[ $state == "$said" ]] || say "$name: job $job is $state" # PENDING PartitionTimeLimit would last for ever
        said=$state
        sleep "${DEEPLAB_POLL_SECONDS:-20}"
    done
    code=$(scontrol show job "$job" 2>/dev/null | tr ' ' '\n' | sed -n 's/^ExitCode=\([0-9]*\):.*/\1/p' | head -n 1)
    job_code=${code:-0}
}

# launch NAME SCRIPT PROGRAM OPTIONS…: as a job or on this machine. done_NAME tells whether the work is done.
launch() {
    local name=$1 script=$2 program=$3
    shift 3
    if ((slurm)); then
        job_code=0
        submitted "$name" "$root/jobs/$script" "$@"
        ((!dry_run)) || return 0
        if ! "done_$name"; then
            ((job_code != 0)) || job_code=75
            say "$name: the job ended with $job_code before the work was done — its log says why: $out/$name-$(<"$out/$name.job").log"
            exit "$job_code"
        fi
    else
        in_steps "$name" "$root/jobs/workstation.sh" --program "$program" ${ranks:+-n "$ranks"} -- "$@"
    fi
}

for split in "$train_split" "$val_split"; do
    [[ -e $shards/$split.json ]] ||
        in_steps "packing $split" "$(program_path deeplab-pack)" --voc "$found" --split "$split" --out "$shards"
done

done_train() {
    [[ $(readlink "$run/checkpoints/latest.h5" 2>/dev/null) == "$(printf 'step-%07d.h5' "$iterations")" ]]
}
options=(--config "$preset" --data "$shards" --out "$run" --device "$device")
[[ $weights == none ]] || options+=(--init "$weights")
options+=("${set_options[@]}")
if done_train; then
    say "trained: $run"
else
    # train.sbatch passes --resume itself.
    ((slurm)) || options+=(--resume)
    launch train train.sbatch deeplab-train "${options[@]}"
fi

# Without evaluations on the way there is no best.
chosen=$run/checkpoints/$which.h5
if ((!dry_run)) && [[ ! -e $chosen ]]; then
    say "no evaluation during training (train.eval_every): the latest checkpoint stands for the best"
    which=latest chosen=$run/checkpoints/latest.h5
fi
for protocol in full centre-crop; do
    result=$out/$protocol.json
    done_eval() { [[ $result -nt $chosen && $(of "$result" weights) == "$chosen" ]]; }
    if done_eval; then
        say "evaluated: $result"
    else
        launch eval eval.sbatch deeplab-eval --weights "$chosen" --data "$shards" --split "$val_split" \
            --protocol "$protocol" --device "$device" --json "$result"
    fi
done
((!dry_run)) || exit 0

# ---- the table

percent() { # FILE KEY
    local value
    value=$(of "$1" "$2")
    if [[ $value == null || -z $value ]]; then echo n/a; else LC_ALL=C awk -v v="$value" 'BEGIN { printf "%.2f", 100 * v }'; fi
}
metrics=(pixel_accuracy mean_pixel_accuracy miou fwiou)
row() { # FILE
    local metric
    for metric in "${metrics[@]}"; do printf ' %s |' "$(percent "$1" "$metric")"; done
}
object() { # FILE
    local metric text=''
    for metric in "${metrics[@]}"; do text+="${text:+, }\"$metric\": $(of "$1" "$metric")"; done
    printf '{%s}' "$text"
}

images=$(of "$out/full.json" images)
trained=$(of "$shards/$train_split.json" records)
step=$(of "$out/full.json" weights_step)
differences=()
[[ $backbone == resnet101 ]] || differences+=("$backbone, not resnet101")
[[ ${weights##*/} == resnet101-5d3b4d8f* ]] || differences+=("started from ${weights##*/}, not resnet101-5d3b4d8f")
[[ $iterations == 30000 ]] || differences+=("$iterations iterations, not 30000")
[[ $trained == 10582 ]] || differences+=("$trained training images, not 10582")
[[ $images == 1449 ]] || differences+=("$images validation images, not 1449")
for one in "${settings[@]}"; do
    case $one in train.iterations=* | model.backbone=*) ;; *) differences+=("--set $one") ;; esac
done
name=$(basename "$preset" .toml)
[[ $name == voc_r101_reference* || $name == voc_r101_paper ]] || differences+=("preset $name")
listed=$(printf '; %s' "${differences[@]}")

{
    printf '# %s: %s checkpoint, step %s of %s, %s images\n\n' "$name" "$which" "$step" "$iterations" "$images"
    printf '| | PA | MPA | mIoU | FWIoU |\n|---|---|---|---|---|\n'
    printf '| this run, protocol centre-crop |%s\n' "$(row "$out/centre-crop.json")"
    printf '| reference implementation, centre-crop, best of 46 epochs | 94.77 | 88.48 | 79.19 | 90.53 |\n'
    printf '| this run, protocol full |%s\n' "$(row "$out/full.json")"
    printf '| paper (arXiv 1802.02611), full | | | 78.85 | |\n\n'
    if ((${#differences[@]})); then
        printf 'Not the published setting, so do not compare: %s.\n' "${listed#; }"
    else
        printf 'The reference left out the last 9 of the 1,449 images.\n'
    fi
} >"$out/reproduction.md.part"
mv "$out/reproduction.md.part" "$out/reproduction.md"
{
    printf '{\n "preset": "%s",\n "checkpoint": "%s",\n "step": %s,\n "iterations": %s,\n' "$name" "$which" "$step" "$iterations"
    printf ' "train_images": %s,\n "val_images": %s,\n' "$trained" "$images"
    printf ' "full": %s,\n "centre_crop": %s,\n' "$(object "$out/full.json")" "$(object "$out/centre-crop.json")"
    printf ' "reference_centre_crop": {"pixel_accuracy": 0.9477, "mean_pixel_accuracy": 0.8848, "miou": 0.7919, "fwiou": 0.9053},\n'
    printf ' "paper_full": {"miou": 0.7885},\n'
    printf ' "published_setting": %s\n}\n' "$( ((${#differences[@]})) && echo false || echo true)"
} >"$out/reproduction.json.part"
mv "$out/reproduction.json.part" "$out/reproduction.json"
cat "$out/reproduction.md"
say "written: $out/reproduction.md, $out/reproduction.json"
