#!/bin/bash
# Copies a folder of shards to this node's own disk, once: one process a node runs this (stage.sh).
# usage: stage_node.sh stage SOURCE DIR JOB PACK    leaves DIR/JOB, a link to the verified copy
#        stage_node.sh leave DIR JOB keep|remove    removes that link; remove: the copy, too, when no other job uses it
#
# DIR/deeplab-HASH      the copy; HASH is of the manifests, which have the shards' checksums
# DIR/deeplab-HASH.lock held while a job copies, verifies or removes: the next one waits and finds the copy
# DIR/JOB               a job's link, its sign that it uses the copy; to SOURCE where the disk lacks the space
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=messages.sh
source "$here/messages.sh"
# shellcheck source=one_rank.sh
source "$here/one_rank.sh"
say() { printf 'stage: %s: %s\n' "$(hostname)" "$*" >&2; }

verify() { as_one_rank "$pack" verify "$1" </dev/null >"$link.log" 2>&1; } # FOLDER

use() { # FOLDER: in place of the link of an earlier start
    ln -sfn "$1" "$link.new"
    mv -T "$link.new" "$link"
    rm -f "$link.log"
}

# Links of other jobs to the copy; those of jobs that are gone are removed.
users() {
    local other id
    for other in "$folder"/deeplab-job-*; do
        [[ -L $other && $other != "$link" && $(readlink "$other") == "$copy" ]] || continue
        id=${other##*-}
        if [[ $id == pid* ]]; then
            kill -0 "${id#pid}" 2>/dev/null || { rm -f "$other"; continue; }
        elif command -v squeue >/dev/null && [[ -z $(squeue -h -j "$id" 2>&1) || $(squeue -h -j "$id" 2>&1) == *"Invalid job id"* ]]; then
            rm -f "$other"
            continue
        fi
        echo "$other"
    done
}

copy_shards() {
    local files needed free part=$copy.part
    files=("$source"/*.json "$source"/*.h5)
    rm -rf "$part" # of a job that was killed
    needed=$(du -cBK "${files[@]}" | tail -n 1 | cut -dK -f1)
    free=$(df -PB1K "$folder" | awk 'NR == 2 { print $4 }')
    if ((free < needed + needed / 20 + 1024)); then
        say "$folder has $free KiB free and the shards take $needed — no copy — reads them from $source"
        use "$source"
        return
    fi
    mkdir "$part"
    if ! cp "${files[@]}" "$part/"; then
        rm -rf "$part"
        say "the copy to $folder failed — reads the shards from $source"
        use "$source"
        return
    fi
    if ! verify "$part"; then
        cat "$link.log" >&2
        rm -rf "$part" "$link.log"
        fail 3 "the copy of $source does not verify (above) — training would read wrong data — see" \
            "\"deeplab-pack verify $source\"; if that is good, the node's disk is not"
    fi
    mv -T "$part" "$copy"
    say "copied $needed KiB to $copy"
    use "$copy"
}

stage() {
    source=$(cd "$1" 2>/dev/null && pwd) || fail 3 "no folder $1 — there are no shards to copy — give the --data of a pack"
    mkdir -p "$2" 2>/dev/null || true
    [[ -d $2 && -w $2 ]] || fail 2 "cannot write $2 — the shards have no place — name a folder on the" \
        "nodes' own disks after --stage, or leave it out"
    folder=$(cd "$2" && pwd) link=$folder/$3 pack=$4
    local manifests=("$source"/*.json)
    [[ -e ${manifests[0]} ]] || fail 3 "no manifest (*.json) in $source — it is no folder of shards — pack first"
    copy=$folder/deeplab-$(cat "${manifests[@]}" | sha256sum | cut -c1-16)
    exec 9>"$copy.lock"
    flock 9
    if [[ -d $copy ]]; then
        if verify "$copy"; then
            say "uses the copy $copy"
            use "$copy"
            return
        fi
        [[ -z $(users) ]] || fail 3 "the copy $copy does not verify, and other jobs use it ($(users)) — training would read" \
            "wrong data — end those jobs, remove the copy and submit again"
        say "the copy $copy does not verify; copies again"
        rm -rf "$copy"
    fi
    copy_shards
}

leave() { # DIR JOB keep|remove
    folder=$(cd "$1" 2>/dev/null && pwd) || return 0
    link=$folder/$2
    [[ -L $link ]] || return 0
    copy=$(readlink "$link")
    [[ $copy == "$folder"/deeplab-* ]] || copy= # the source itself
    if [[ -n $copy ]]; then
        exec 9>"$copy.lock"
        flock 9
    fi
    rm -f "$link"
    # The lock's file stays: another job may wait for it.
    if [[ -n $copy && $3 == remove && -z $(users) ]]; then rm -rf "$copy"; fi
}

"$@"
