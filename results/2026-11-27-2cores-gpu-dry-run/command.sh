#!/usr/bin/env bash
# BUILD: configured with -DDEEPLAB_CUDA=ON, target bundle built. ELSEWHERE: an empty folder outside of it. PYTHONS: interpreters
# with PyTorch.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
say() { printf '\n$ %s\n' "$*"; }
clean() { # a shell that knows nothing of the build
    say "$*"
    env -i PATH=/usr/bin:/bin HOME="$ELSEWHERE" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "$@" 2>&1 | tail -n 12
    echo "exit code ${PIPESTATUS[0]}"
}

cp -r "$BUILD/bundle" "$ELSEWHERE/bundle"
bin=$ELSEWHERE/bundle/bin
cd "$ELSEWHERE" || exit
grep -rlE "$BUILD" bundle/bin bundle/openmpi bundle/pmix && echo "the bundle names the folder it was built in"
for program in "$bin"/*; do clean "$program" --help | sed -n '2p;$p'; done
clean "$bin/deeplab-make-shapes" --out data --train 16 --val 4
for split in train val; do clean "$bin/deeplab-pack" --voc data --classes data/classes.toml --split $split --out shards; done
train=(--config "$root/jobs/configs/quickstart_cpu.toml" --data shards --set train.iterations=2 --set train.eval_every=0)
clean "$bin/deeplab-train" "${train[@]}" --out cpu --device auto
clean "$bin/mpirun" -np 2 --bind-to none --oversubscribe "$bin/deeplab-train" "${train[@]}" --out two --device cpu
clean "$bin/deeplab-train" "${train[@]}" --out cuda --device cuda
clean "$bin/gpu_tests"
clean bash "$root/benchmarks/gpu_check.sh" correct --bin "$bin" --out check
clean bash "$root/benchmarks/gpu_check.sh" bench --bin "$bin" --out check

# What gpu_check.sh keeps of a device, from a description in its place.
clean "$bin/deeplab-plan-check" "$root/tests/cuda/device-properties/h200.json" "$root/jobs/configs" | tee plans.log | tail -n 2
"$bin/deeplab-plan-check" "$root/tests/cuda/device-properties/h200.json" "$root/jobs/configs" | sed '/^convolution pass/,$d' >kept.json
python3 -c 'import json, sys; a, b = (json.load(open(f)) for f in sys.argv[1:]); print("the same properties:", a == b)' \
    kept.json "$root/tests/cuda/device-properties/h200.json"

for python in $PYTHONS; do
    clean "$python" "$root/benchmarks/pytorch_baseline.py" --device cpu --backbone resnet18 --crop 65 --batch 2 --steps 3 --warmup 1
done

# What would travel to a machine with a GPU: the working tree, the bundle without symbols, generated samples.
cp -r bundle small
find small/lib small/libexec small/openmpi -type f -exec sh -c 'strip --strip-unneeded "$1" 2>/dev/null' _ {} \;
git -C "$root" archive --prefix=tree/ HEAD | tar -xf -
say "tar of tree, bundle and shards through xz"
tar -cf bundle.tar bundle && tar -cf all.tar tree small shards && xz -T2 -k all.tar
wc -c bundle.tar all.tar all.tar.xz
