#!/usr/bin/env bash
# usage: command.sh VOC OUT.csv — packs the train_aug list of a VOC folder again and again, from a warm cache, and verifies it.
set -euo pipefail
voc=$1 csv=$2
bin=$(cd "$(dirname "$0")/../.." && pwd)/${DEEPLAB_BUILD:-build}/bin
shards=$(mktemp -d)
trap 'rm -rf "$shards"' EXIT
find "$voc/" -type f -exec cat {} + >/dev/null # warm

echo ranks,encoding,round,images_per_s >"$csv"
for round in 1 2 3 4 5; do
    for encoding in source raw; do
        for ranks in 1 2; do
            said=$(mpirun --bind-to none -np "$ranks" "$bin/deeplab-pack" --voc "$voc" --split train_aug --encoding "$encoding" \
                --out "$shards" --force 2>&1 | tail -n 1)
            echo "$ranks,$encoding,$round,$(sed -E 's/.* ([0-9]+) images\/s.*/\1/' <<<"$said")" | tee -a "$csv"
        done
    done
done
time mpirun --bind-to none -np 2 "$bin/deeplab-pack" verify "$shards"
