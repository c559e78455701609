#!/bin/bash
# Fetches the ImageNet weights of the backbone. `--help` explains.
set -euo pipefail

# PyTorch's address of torchvision's ResNet-101; the digits in the name begin the file's SHA-256. This download was not
# tried by the project's tests, which serve a file of their own. Both can be overridden from the environment.
official=resnet101-5d3b4d8f.pth
official_bytes=178728960
url=${WEIGHTS_URL:-https://download.pytorch.org/models/$official}
name=${url%%\?*}
name=${name##*/}
default_bytes=
[[ $name != "$official" ]] || default_bytes=$official_bytes
bytes=${WEIGHTS_BYTES-$default_bytes}

usage() {
    cat <<END
usage: jobs/get_weights.sh [--dry-run] DIR

Fetches torchvision's ResNet-101 for ImageNet (170 MB) into DIR, and checks it: its SHA-256 must begin with the digits in
its name, as PyTorch names its files. Continues a download that broke off; a second call only checks. Needs curl or wget,
and sha256sum or shasum.

  --dry-run    prints what would be fetched
  --help       this text

Environment: WEIGHTS_URL    another address, of a file NAME-DIGITS.pth
             WEIGHTS_BYTES  its size; empty: not checked
now: WEIGHTS_URL=$url
     WEIGHTS_BYTES=$bytes

example:
  jobs/get_weights.sh weights
  mpirun -np 2 build/bin/deeplab-train --init weights/$official --config jobs/configs/voc_r101_reference.toml \\
      --data shards --out run
END
}

mirrors="WEIGHTS_URL, WEIGHTS_BYTES"
# shellcheck source=lib/download.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/download.sh"

sha256_of() {
    if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}

dry_run=0
folders=()
for argument in "$@"; do
    case $argument in
        -h | --help)
            usage
            exit 0
            ;;
        --dry-run) dry_run=1 ;;
        -*) fail 2 "unknown option $argument — a folder and --dry-run are expected — see jobs/get_weights.sh --help" ;;
        *) folders+=("$argument") ;;
    esac
done
((${#folders[@]} == 1)) ||
    fail 2 "needs one folder, got ${#folders[@]} — the weights must go somewhere — write jobs/get_weights.sh DIR"
dir=${folders[0]}
[[ $bytes =~ ^[0-9]*$ ]] || fail 2 "\"$bytes\" in WEIGHTS_BYTES is not a number of bytes — the size could not be checked —" \
    "write digits, or nothing for no check"
[[ $name =~ -([0-9a-f]{8,64})\.[a-z0-9]+$ ]] ||
    fail 2 "\"$name\" of WEIGHTS_URL has no digits of a SHA-256 before its ending — the file could not be checked — give an" \
        "address like …/$official"
digits=${BASH_REMATCH[1]}
if ((dry_run)); then
    say "would fetch $url to $dir/$name${bytes:+, $bytes bytes}, SHA-256 $digits…"
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
