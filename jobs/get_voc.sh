#!/bin/bash
# Fetches and unpacks PASCAL VOC 2012 and the augmented masks. `--help` explains.
set -euo pipefail

# The addresses and the size of the first are what is commonly published; these downloads were not tried by the project's
# tests, which serve small archives of their own. All four can be overridden from the environment.
official_bytes=1999639040
official_md5=6cd6e144f989b92b3379bac3b3de84fd # of that archive, as torchvision checks it
voc_url=${VOC_URL:-http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar}
voc_bytes=${VOC_BYTES-$official_bytes}
aug_url=${AUG_URL:-https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip?dl=1}
aug_bytes=${AUG_BYTES-}

usage() {
    cat <<END
usage: jobs/get_voc.sh DIR

Fetches VOC 2012 (2.0 GB) and the masks of its augmented training set, and unpacks them into DIR/VOCdevkit/VOC2012, with
SegmentationClassAug beside SegmentationClass. Continues a download that broke off; a second call does nothing. Needs
curl or wget, tar, and one of unzip, bsdtar, python3.

Environment: VOC_URL, AUG_URL   other addresses of the two archives
             VOC_BYTES, AUG_BYTES   their sizes; empty: not checked
now: VOC_URL=$voc_url
     VOC_BYTES=$voc_bytes
     AUG_URL=$aug_url
     AUG_BYTES=$aug_bytes

example:
  jobs/get_voc.sh data
  build/bin/deeplab-pack --voc data/VOCdevkit/VOC2012 --split train_aug --out shards
END
}

mirrors="VOC_URL, VOC_BYTES, AUG_URL, AUG_BYTES"
# shellcheck source=lib/download.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/download.sh"

# A folder for unpacking, on the same file system as the result: the last step is one rename.
make_scratch() { [[ -n $scratch ]] || scratch=$(mktemp -d "$dir/.unpack-XXXXXX"); }

unzip_into() { # FILE FOLDER
    if command -v unzip >/dev/null; then
        unzip -q "$1" -d "$2"
    elif command -v bsdtar >/dev/null; then
        bsdtar -xf "$1" -C "$2"
    elif command -v python3 >/dev/null; then
        python3 -m zipfile -e "$1" "$2"
    else
        fail 2 "unzip is missing — $1 cannot be unpacked — install unzip (or bsdtar, or python3) and call again"
    fi
}

get_voc() {
    local voc=$dir/VOCdevkit/VOC2012 archive=$dir/VOCtrainval_11-May-2012.tar part
    if [[ -d $voc ]]; then
        for part in JPEGImages SegmentationClass ImageSets/Segmentation; do
            [[ -d $voc/$part ]] || fail 3 "$voc is there, but lacks $part — it is not a whole VOC 2012, and is left as it" \
                "is — move it away and call again"
        done
        say "VOC 2012 is there: $voc"
        return
    fi
    make_scratch
    say "fetches $voc_url"
    download "$voc_url" "$archive" "$voc_bytes" VOC
    if [[ $voc_bytes == "$official_bytes" ]] && command -v md5sum >/dev/null; then
        [[ $(md5sum <"$archive") == "$official_md5  -" ]] ||
            refuse "$archive" "$archive has the right size, but its MD5 sum is not $official_md5"
    fi
    say "unpacks $archive"
    if ! tar -xf "$archive" -C "$scratch" || [[ ! -d $scratch/VOCdevkit/VOC2012/JPEGImages ]] ||
        [[ ! -d $scratch/VOCdevkit/VOC2012/SegmentationClass ]] ||
        [[ ! -d $scratch/VOCdevkit/VOC2012/ImageSets/Segmentation ]]; then
        refuse "$archive" "$archive ($voc_url) is not a tar of VOCdevkit/VOC2012 with images, masks and lists"
    fi
    mkdir -p "$dir/VOCdevkit"
    mv "$scratch/VOCdevkit/VOC2012" "$voc"
    rm -f "$archive"
    say "VOC 2012: $(find "$voc/JPEGImages" -type f | wc -l) images in $voc"
}

get_aug() {
    local masks=$dir/VOCdevkit/VOC2012/SegmentationClassAug archive=$dir/SegmentationClassAug.zip found
    if [[ -d $masks ]]; then
        say "SegmentationClassAug is there: $masks"
        return
    fi
    make_scratch
    say "fetches $aug_url"
    download "$aug_url" "$archive" "$aug_bytes" AUG
    say "unpacks $archive"
    [[ $(head -c 2 "$archive") == PK ]] ||
        refuse "$archive" "$archive ($aug_url) is not a zip file (a mirror may answer with a web page)"
    mkdir "$scratch/aug"
    unzip_into "$archive" "$scratch/aug" || refuse "$archive" "$archive ($aug_url) cannot be unpacked"
    found=$(find "$scratch/aug" -type d -name SegmentationClassAug -not -path '*/__MACOSX/*' | head -n 1)
    [[ -n $found && -n $(find "$found" -maxdepth 1 -name '*.png' | head -n 1) ]] ||
        refuse "$archive" "$archive ($aug_url) has no folder SegmentationClassAug with .png files"
    mv "$found" "$masks"
    rm -f "$archive"
    say "SegmentationClassAug: $(find "$masks" -name '*.png' | wc -l) masks in $masks"
}

if [[ ${1-} == -h || ${1-} == --help ]]; then
    usage
    exit 0
fi
(($# == 1)) || fail 2 "needs one folder, got $# arguments — the data must go somewhere — write jobs/get_voc.sh DIR"
[[ $1 != -* ]] || fail 2 "unknown option $1 — only a folder is expected — see jobs/get_voc.sh --help"
for bytes in "$voc_bytes" "$aug_bytes"; do
    [[ $bytes =~ ^[0-9]*$ ]] || fail 2 "\"$bytes\" in VOC_BYTES or AUG_BYTES is not a number of bytes — sizes could not be" \
        "checked — write digits, or nothing for no check"
done
require_downloader
dir=$1
mkdir -p "$dir" || fail 2 "cannot make the folder $dir — the data must go somewhere — name a folder you may write to"
scratch=
trap '[[ -z $scratch ]] || rm -rf "$scratch"' EXIT
get_voc
get_aug
say "done: $dir/VOCdevkit/VOC2012"
