#!/bin/bash
# Fetches the ImageNet weights of a backbone. `--help` explains.
set -euo pipefail

# Of each network: where its file lies, the name under which it is kept, its size where that is known. The digits in a name
# begin the file's SHA-256; timm's files have none. PyTorch's addresses stand in torchvision's code, timm's follow from the
# names in its. The project's tests did not try these downloads, they serve a file of their own.
pytorch=https://download.pytorch.org/models timm=https://huggingface.co/timm
networks="resnet101        $pytorch/resnet101-5d3b4d8f.pth     -                                178728960
resnet101_v2     $pytorch/resnet101-cd907fc2.pth     -                                -
resnet50         $pytorch/resnet50-0676ba61.pth      -                                -
resnet50_v2      $pytorch/resnet50-11ad3fa6.pth      -                                -
resnet18         $pytorch/resnet18-f37072fd.pth      -                                -
mobilenet_v2     $pytorch/mobilenet_v2-b0353104.pth  -                                -
mobilenet_v2_v2  $pytorch/mobilenet_v2-7ebf99e0.pth  -                                -
xception41       $timm/xception41.tf_in1k/resolve/main/model.safetensors   xception41.tf_in1k.safetensors   -
xception65       $timm/xception65.ra3_in1k/resolve/main/model.safetensors  xception65.ra3_in1k.safetensors  -
xception71       $timm/xception71.tf_in1k/resolve/main/model.safetensors   xception71.tf_in1k.safetensors   -"
names=$(cut -d ' ' -f 1 <<<"$networks" | paste -s -d ' ')

usage() {
    cat <<END
usage: jobs/get_weights.sh [--network NAME] [--dry-run] DIR

Fetches a backbone's weights for ImageNet into DIR, and checks them: the file's SHA-256 must begin with the digits in its
name, as PyTorch names its files. timm's Xceptions have no digits: whether such a file is whole and of that network is seen
when it is read (deeplab-weights info). Continues a download that broke off; a second call only checks. Needs curl or wget,
and sha256sum or shasum.

  --network NAME  $names;
                  resnet101 by default; _v2 are torchvision's newer weights (IMAGENET1K_V2). The Xceptions want
                  model.mean and model.std of [0.5, 0.5, 0.5], as jobs/configs/voc_xception65.toml has them
  --dry-run       prints what would be fetched
  --help          this text

Environment: WEIGHTS_URL    another address, of a file NAME-DIGITS.pth
             WEIGHTS_BYTES  its size; empty: not checked

example:
  jobs/get_weights.sh weights
  mpirun -np 2 build/bin/deeplab-train --init weights/resnet101-5d3b4d8f.pth --config jobs/configs/voc_r101_reference.toml \\
      --data shards --out run
  jobs/get_weights.sh --network mobilenet_v2 weights
END
}

mirrors="WEIGHTS_URL, WEIGHTS_BYTES"
# shellcheck source=lib/download.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/download.sh"

sha256_of() {
    if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}

dry_run=0
network=resnet101
folders=()
while (($# > 0)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --dry-run) dry_run=1 ;;
        --network)
            (($# > 1)) || fail 2 "--network needs a name — one file is fetched — use one of $names"
            network=$2
            shift
            ;;
        -*) fail 2 "unknown option $1 — a folder, --network and --dry-run are expected — see jobs/get_weights.sh --help" ;;
        *) folders+=("$1") ;;
    esac
    shift
done
((${#folders[@]} == 1)) ||
    fail 2 "needs one folder, got ${#folders[@]} — the weights must go somewhere — write jobs/get_weights.sh DIR"
dir=${folders[0]}
url='' kept='' default_bytes=''
while read -r name address file size; do
    if [[ $name == "$network" ]]; then url=$address kept=${file#-} default_bytes=${size#-}; fi
done <<<"$networks"
[[ -n $url ]] || fail 2 "no network is called \"$network\" — there is nothing to fetch — use one of $names"
if [[ -n ${WEIGHTS_URL:-} ]]; then url=$WEIGHTS_URL kept='' default_bytes=''; fi
name=${url%%\?*}
name=${kept:-${name##*/}}
bytes=${WEIGHTS_BYTES-$default_bytes}
[[ $bytes =~ ^[0-9]*$ ]] || fail 2 "\"$bytes\" in WEIGHTS_BYTES is not a number of bytes — the size could not be checked —" \
    "write digits, or nothing for no check"
digits=
if [[ $name =~ -([0-9a-f]{8,64})\.[a-z0-9]+$ ]]; then
    digits=${BASH_REMATCH[1]}
elif [[ -z $kept ]]; then
    fail 2 "\"$name\" of WEIGHTS_URL has no digits of a SHA-256 before its ending — the file could not be checked — give an" \
        "address like …/resnet101-5d3b4d8f.pth"
fi
if ((dry_run)); then
    say "would fetch $url to $dir/$name${bytes:+, $bytes bytes}${digits:+, SHA-256 $digits…}"
    exit 0
fi
require_downloader
command -v sha256sum >/dev/null || command -v shasum >/dev/null ||
    fail 2 "neither sha256sum nor shasum is installed — the file could not be checked — install one of them"
mkdir -p "$dir" || fail 2 "cannot make the folder $dir — the weights must go somewhere — name a folder you may write to"
file=$dir/$name
[[ -f $file ]] || say "fetches $url"
download "$url" "$file" "$bytes" WEIGHTS
found=$(sha256_of "$file")
[[ $found == "$digits"* ]] || refuse "$file" "$file has the SHA-256 $found, which does not begin with $digits"
say "done: $file, SHA-256 $found"
