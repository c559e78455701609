# shellcheck shell=bash
# Sourced, with $root set: sources PATTERN… prints the files of the repository that match, one a line, relative to its root.
set -u
sources() {
    : "${root:?}"
    if git -C "$root" rev-parse --is-inside-work-tree > /dev/null 2>&1; then
        git -C "$root" -c safe.directory='*' ls-files --cached --others --exclude-standard -- "$@" | sort -u |
            while read -r file; do if [ -e "$root/$file" ]; then echo "$file"; fi; done
    else
        local pattern
        for pattern in "$@"; do (cd "$root" && find . -path './build*' -prune -o -name "$pattern" -print | sed 's|^\./||'); done | sort -u
    fi
}
