#!/bin/bash
# cmake --install into a folder that is then moved: programs, job scripts and module files work from there, without the checkout.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
[[ -e $built/CMakeCache.txt && -x $built/bin/deeplab-train ]] || skip "no build"
command -v mpirun >/dev/null || skip "no mpirun"
cd "$temporary"
unset LD_LIBRARY_PATH LD_PRELOAD
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1

run cmake --install "$built" --prefix "$PWD/first"
expect_status 0 "cmake --install"
mv first moved
prefix=$PWD/moved share=$PWD/moved/share/deeplab-hpc
for program in "$prefix"/bin/*; do
    foreign=$(ldd "$program" | awk -v built="$built" '/not found/ || index($0, built)')
    expect "libraries of ${program##*/}: $foreign" test -z "$foreign"
    ! command -v readelf >/dev/null ||
        expect "${program##*/} looks beside itself first" grep -q "PATH.*\[\$ORIGIN/../lib" <(readelf -d "$program")
done
for file in "$prefix"/bin/* "$share"/jobs/lib/programs "$prefix"/share/modulefiles/deeplab-hpc/*; do
    expect "${file##*/} does not know where it was installed" bash -c "! grep -q '$PWD/first' '$file'"
done
expect "the documents" test -s "$prefix/share/doc/deeplab-hpc/README.md"

"$prefix/bin/deeplab-make-shapes" --out data --train 4 --val 2 --size 64x48 >/dev/null
for split in train val; do
    run bash "$share/jobs/workstation.sh" -n 1 --program deeplab-pack --voc data --classes data/classes.toml --split $split --out data
    expect_status 0 "pack $split"
done
run bash "$share/jobs/workstation.sh" -n 1 --config "$share/jobs/configs/quickstart_cpu.toml" --data data --out run \
    --set train.iterations=2 --set train.global_batch=2 --set train.eval_every=0
expect_status 0 "train"
expect "a checkpoint" test -s run/checkpoints/step-0000002.h5
# What the programs were built from, not the repository that the prefix may lie in.
expect "the record's source" grep -q "^source: $("$built/bin/deeplab-train" --version | sed -n 's/^git: //p')$" <(cat run/attempts/*.txt)

# Slurm runs a copy of the script; the module says where the rest is.
cp "$share/jobs/train.sbatch" slurm_script
run env SLURM_SUBMIT_DIR=/ DEEPLAB_ROOT="$share" bash slurm_script --dry-run
expect_text "$prefix/bin/deeplab-train" "a job script finds the programs"
run env SLURM_SUBMIT_DIR=/ DEEPLAB_ROOT="$share" DEEPLAB_BUILD="$built" bash slurm_script --dry-run
expect_text "$built/bin/deeplab-train" "DEEPLAB_BUILD decides"
run env DEEPLAB_ROOT="$share" bash "$share/jobs/scaling.sh" --sizes 1 --weak 1 --out s --dry-run
expect_text "$prefix/bin/deeplab-bench" "scaling.sh finds the programs"
run bash "$share/jobs/scaling.sh" --report "$PWD"
expect_text "no points" "scaling.sh finds its report"

# Either kind of module, where this machine has it.
for file in /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do
    [[ -f $file ]] || continue
    run bash -c "source '$file' && module use '$prefix/share/modulefiles' && module load deeplab-hpc && command -v deeplab-train &&
        echo root=\$DEEPLAB_ROOT && module unload deeplab-hpc && ! command -v deeplab-train && echo gone\$DEEPLAB_ROOT"
    expect_status 0 "the module with $file"
    expect_text "$prefix/bin/deeplab-train" "the module with $file"
    expect_text "root=$share" "the module with $file"
    [[ $output == *$'\ngone' ]] || failed "the module with $file leaves something behind: $output"
    echo "tried: the module with $file"
done
verdict
