# shellcheck shell=bash
# Downloads that continue where they broke off. Sourced by the scripts that fetch; they set `mirrors`, the names of the
# variables that choose other addresses, for messages.
set -u

: "${mirrors:?names of variables, set by the script that sources this}"
# shellcheck source=messages.sh
source "$(dirname "${BASH_SOURCE[0]}")/messages.sh"

size_of() { if [[ -f $1 ]]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

# One attempt to fetch the rest of URL into FILE. 0: the server has no more; 1: broke off; 33: it cannot continue a file.
fetch_once() {
    local url=$1 file=$2 code status=0 curl_shows=--silent wget_shows=--no-verbose
    if [[ -t 2 ]]; then curl_shows=--progress-bar wget_shows=--show-progress; fi
    if command -v curl >/dev/null; then
        code=$(curl --fail --location --show-error "$curl_shows" --continue-at - --connect-timeout 30 --speed-limit 1000 \
            --speed-time 60 --write-out '%{http_code}' --output "$file" "$url") || status=$?
        # 416: nothing lies behind what we have.
        [[ $status != 22 || $code != 416 ]] || return 0
        [[ $status == 0 || $status == 33 ]] || status=1
        return "$status"
    fi
    wget --continue "$wget_shows" --tries=1 --timeout=60 --output-document="$file" "$url" || return 1
}

# download URL FILE BYTES NAME: FILE appears only when complete; FILE.part is what came so far.
download() {
    local url=$1 file=$2 bytes=$3 name=$4 part=$2.part idle=0 best before now status
    if [[ -f $file ]]; then
        [[ -z $bytes ]] || (($(size_of "$file") == bytes)) ||
            refuse "$file" "$name has $(size_of "$file") bytes and should have $bytes ($file)"
        return
    fi
    best=$(size_of "$part")
    while :; do
        before=$(size_of "$part")
        if [[ -n $bytes ]] && ((before == bytes)); then break; fi
        if [[ -n $bytes ]] && ((before > bytes)); then
            refuse "$part" "$name has $before bytes and should have $bytes ($url)"
        fi
        ((before == 0)) || say "$name: continues at byte $before${bytes:+ of $bytes}"
        status=0
        fetch_once "$url" "$part" || status=$?
        if ((status == 33)); then
            say "$name: the server cannot continue a download; starts again"
            rm -f "$part"
        fi
        if ((status == 0)); then
            [[ -z $bytes ]] || (($(size_of "$part") == bytes)) ||
                refuse "$part" "$name has $(size_of "$part") bytes and should have $bytes ($url)"
            break
        fi
        now=$(size_of "$part")
        idle=$((now > best ? 0 : idle + 1))
        best=$((now > best ? now : best))
        ((idle < 3)) || fail 4 "$name broke off after $now${bytes:+ of $bytes} bytes ($url) — the rest is" \
            "missing — call again to continue, or set ${name}_URL to another mirror"
        sleep "$idle"
    done
    mv "$part" "$file"
}

# A file that is not what was asked for must not be continued by the next call.
refuse() {
    mv "$1" "$1.refused"
    fail 3 "$2 — it is another file or a damaged one, so it was not used — look at $1.refused, then call again, or set" \
        "$mirrors for a mirror with other files"
}

require_downloader() {
    command -v curl >/dev/null || command -v wget >/dev/null ||
        fail 2 "neither curl nor wget is installed — nothing can be fetched — install one of them"
}
