#!/usr/bin/env bash
# From nothing to a trained, evaluated, visible network on this machine. `--help` explains.
# shellcheck disable=SC2154  # take_options assigns
set -euo pipefail

usage() {
    cat <<END
usage: jobs/quickstart.sh [--voc DIR] [--out DIR]

Installs what the build needs (apt, as root or with sudo), builds the programs, makes a small data set of textured shapes,
packs it, trains on two ranks, evaluates on the held-out images and draws predictions. About ten minutes on two cores.

$(option_help)

A second run on the same DIR goes on from what is there: data stays, training resumes at its last checkpoint, evaluation
and pictures are made anew. To start over, remove DIR.

variables: DEEPLAB_BUILD       the build's folder (default: build/ in the checkout)
           DEEPLAB_NO_INSTALL  1: do not install packages

example:
  jobs/quickstart.sh --out /scratch/me/quickstart
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=lib/setup.sh
source "$root/jobs/lib/setup.sh"

option_table=(
    "--voc DIR" voc '' "a VOC folder (VOCdevkit/VOC2012 or above it) to use in place of the shapes"
    "--out DIR" out ./quickstart "where everything goes: data/, run/, predictions/"
)
take_options refused "$@"
((${#program_options[@]} == 0)) || fail 2 "unknown argument ${program_options[0]} — the quick start takes --voc and --out — see --help"
if [[ -n $voc ]]; then
    [[ -d $voc ]] || fail 2 "--voc $voc is not a folder — there is nothing to train on — name the folder of VOC 2012"
    voc=$(cd "$voc" && pwd)
fi

mkdir -p "$out/data" || fail 2 "cannot make the folder $out/data — the results belong there — choose another with --out"
out=$(cd "$out" && pwd)
# What the folder was made from: two data sets must not mix in one run.
source_file=$out/data/source.txt
if [[ -e $source_file && $(<"$source_file") != "${voc:-shapes}" ]]; then
    fail 2 "$out holds a quick start on $(<"$source_file") — training would go on with other images — choose another" \
        "folder with --out, or remove it"
fi

start=$SECONDS
step() { say "$(printf '[%2d min %02d s] %s' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) "$*")"; }

step "packages"
install_packages build

build=$(build_folder)
step "building into $build"
# Output of the build only where it fails: a user need not read it.
build_log=$(mktemp)
trap 'rm -f "$build_log"' EXIT
if ! {
    configure "$build" -DCMAKE_BUILD_TYPE=Release -DDEEPLAB_TESTS=OFF -DDEEPLAB_BENCHMARKS=OFF \
        "-DDEEPLAB_CUDA=$(cuda_option)" -DDEEPLAB_ONEDNN=ON -DDEEPLAB_MPI=ON &&
        cmake --build "$build" --parallel "$(processors)" \
            --target deeplab-make-shapes deeplab-pack deeplab-train deeplab-eval deeplab-predict
} >"$build_log" 2>&1; then
    tail -n 40 "$build_log" >&2
    fail 1 "the build failed (above) — nothing could be run"
fi
bin=$build/bin

allow_root
# Two ranks on two cores: a waiting one must not take the other's processor.
export OMP_WAIT_POLICY=passive
# Nor do they need an interconnect, whose interfaces Open MPI 5 may complain of.
export OMPI_MCA_btl=${OMPI_MCA_btl:-^tcp}
mpi=(mpirun --oversubscribe --bind-to none -np 2)

classes=()
if [[ -z $voc ]]; then
    voc_folder=$out/data
    classes=(--classes "$out/data/classes.toml")
    if [[ ! -e $out/data/train.json || ! -e $out/data/val.json ]]; then
        step "drawing a data set"
        rm -rf "$out/data/VOCdevkit" "$out/data/classes.toml" # of a run that was interrupted here
        "$bin/deeplab-make-shapes" --out "$out/data"
    fi
    echo shapes >"$source_file"
else
    voc_folder=$voc
    echo "$voc" >"$source_file"
fi

for split in train val; do
    if [[ ! -e $out/data/$split.json ]]; then
        step "packing $split"
        "$bin/deeplab-pack" --voc "$voc_folder" "${classes[@]}" --split "$split" --out "$out/data"
    fi
done

step "training on 2 ranks, about 4 minutes on two cores"
"${mpi[@]}" "$bin/deeplab-train" --config "$root/jobs/configs/quickstart_cpu.toml" --data "$out/data" --out "$out/run" \
    --resume

step "evaluating"
"${mpi[@]}" "$bin/deeplab-eval" --weights "$out/run" --data "$out/data" --split val --json "$out/run/evaluation.json" \
    >"$out/run/evaluation.txt"

step "predicting"
list='' images=()
for folder in "$voc_folder" "$voc_folder/VOCdevkit/VOC2012" "$voc_folder/VOC2012"; do
    if [[ -e $folder/ImageSets/Segmentation/val.txt ]]; then list=$folder; fi
done
[[ -n $list ]] || fail 3 "no ImageSets/Segmentation/val.txt under $voc_folder — no images to predict — check the VOC folder"
while read -r id; do images+=("$list/JPEGImages/$id.jpg"); done < <(head -n 4 "$list/ImageSets/Segmentation/val.txt")
"$bin/deeplab-predict" --weights "$out/run" --out "$out/predictions" --force "${images[@]}"

step "done"
cat "$out/run/evaluation.txt"
echo
echo "pictures:"
for image in "${images[@]}"; do
    name=$(basename "$image" .jpg)
    printf '  %s\n' "$out/predictions/${name}_overlay.jpg"
done
echo "metrics:  $out/run/evaluation.json, $out/run/metrics.jsonl, $out/run/tensorboard/"
