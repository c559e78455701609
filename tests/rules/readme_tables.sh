#!/usr/bin/env bash
# The tables of README.md are those of results/, and a figure that differs is noticed. Exit 77: skipped.
# usage: readme_tables.sh SOURCE_DIR
set -euo pipefail
root=$1
python3 -c 'import tomllib' 2>/dev/null || { echo "skipped: no Python 3.11"; exit 77; }
tables() { python3 "$root/benchmarks/readme_tables.py" --check --root "$1"; }
tables "$root"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/README.md" "$root/results" "$work"
tables "$work"
figures=$work/results/2026-11-23-2cores-quickstart/summary.json
sed -i 's/"quickstart_val_miou": [0-9.]*/"quickstart_val_miou": 0.5/' "$figures"
if said=$(tables "$work" 2>&1); then echo "FAILED: another figure in results/ was not noticed"; exit 1; fi
[[ $said == *"+| quick start, mIoU"*"**0.500**"*"disagree"* ]] || { echo "FAILED: it said: $said"; exit 1; }
sed -i '/quickstart_val_miou/d' "$figures"
if said=$(tables "$work" 2>&1); then echo "FAILED: a figure that is not there was not noticed"; exit 1; fi
[[ $said == *"KeyError('quickstart_val_miou')"* ]] || { echo "FAILED: it said: $said"; exit 1; }
echo "README.md says what results/ says"
