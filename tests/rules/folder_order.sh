#!/usr/bin/env bash
# Rule 3: a folder includes only folders above it (src/README.md); nothing reaches into another folder's private headers.
# usage: folder_order.sh SOURCE_DIR
set -euo pipefail
root=$1
cd "$root"

allowed='
base:
math:
graph: base math
model: base math graph
comm: base
exec: base math graph comm
cpu: base math graph comm exec
cuda: base math graph comm exec
io: base
data: base math io
config: base model io data
weights: base graph model comm exec io data config
evaluate: base model math comm exec io data
report: base io data evaluate
train: base graph model math comm exec io data config weights evaluate report
tools: base graph model math comm exec cpu cuda io data config weights evaluate report train
preprocess: base math comm io data
benchmarks: base graph model math comm exec cpu cuda io data config weights evaluate report train tools preprocess
'

grep -rnoE --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' '#include "[^"]*"' include src preprocess benchmarks |
    sed -E 's/:[0-9]+:#include / /; s/"//g' | ALLOWED=$allowed awk '
    BEGIN {
        lines = split(ENVIRON["ALLOWED"], line, "\n")
        for (i = 1; i <= lines; ++i) {
            words = split(line[i], word, /[: ]+/)
            if (words == 0 || word[1] == "") continue
            exists[word[1]] = 1
            may[word[1], word[1]] = 1
            for (j = 2; j <= words; ++j) if (word[j] != "") may[word[1], word[j]] = 1
        }
    }
    {
        split($1, part, "/")
        public = part[1] == "include"
        folder = public ? part[3] : part[1] == "src" ? part[2] : part[1]
        if (!(folder in exists)) { print $1 ": the folder " folder " is not in the table of tests/rules/folder_order.sh"; bad = 1 }
        if ($2 ~ /^deeplab\//) {
            split($2, target, "/")
            if (!((folder, target[2]) in may)) { print $1 " includes \"" $2 "\": " folder " may not use " target[2]; bad = 1 }
        } else if (public || $2 ~ /\//) {
            # A private header is named without a path, from its own folder only.
            print $1 " includes \"" $2 "\": a private header of another folder, or a public header that needs a private one"
            bad = 1
        }
        ++count
    }
    END { print count + 0 " includes between our files"; exit bad || count == 0 }'
