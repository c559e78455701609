#!/bin/bash
# The commands that the documents print, as they stand there: "My data set has 12 classes" of README.md, and the h5py
# example of preprocess/README.md on the shards that come of it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"

[[ -x $built/bin/deeplab-train && -x $built/bin/deeplab-predict ]] || skip "the programs are not built"
command -v mpirun >/dev/null || skip "no mpirun"

# block FILE HEADING LANGUAGE: the first block of code of that language below the heading, or below a line that begins so.
block() {
    awk -v heading="$2" -v fence='```'"$3" '
        index($0, heading) == 1 { below = 1 }
        below && $0 == fence { inside = 1; next }
        inside && $0 == "```" { exit }
        inside' "$1"
}

cd "$temporary"
ln -s "$built" build
ln -s "$root/jobs" jobs
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1

block "$root/README.md" "### My data set has 12 classes" sh >walk.sh
expect "README.md has the walk-through" test -s walk.sh
run bash -euo pipefail walk.sh
expect_status 0 "the walk-through"
expect_text "packed 60 images" "packing"
expect_text "checker triangle" "the metric table names the last class"
expect "a prediction" test -s mine/predictions/val_00000.png
expect "its overlay" test -s mine/predictions/val_00000_overlay.jpg

python=$(python_with "h5py, PIL") || {
    echo "not tried: the example for h5py (Python has no h5py or Pillow)"
    verdict
    exit
}
block "$root/preprocess/README.md" "With h5py" python | sed 's/\.show()/.load()/' >read.py
expect "preprocess/README.md has the example" test -s read.py
mkdir reader && ln -s ../mine/shards reader/shards
run "$python" - <<<"import os; os.chdir('reader'); exec(open('../read.py').read())"
expect_status 0 "the h5py example"
expect_text "val_00005" "the record that h5py read"
verdict
