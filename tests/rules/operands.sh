#!/usr/bin/env bash
# A node's tensors are read by name (include/deeplab/graph/operands.h): an index into its lists would say once more which
# tensor stands where, and be wrong unseen when an op gets another one.
# usage: operands.sh SOURCE_DIR
set -euo pipefail
cd "$1"

found=$(grep -rnE --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' \
    '(\.|->)(in|out)(\[|\.(front|back|at)\()' include src preprocess benchmarks tests || true)
if [[ -n $found ]]; then
    echo "$found"
    echo "a place in a node's list of inputs or outputs (above) — include/deeplab/graph/operands.h alone knows their order —" \
        "use operands(op, node)"
    exit 1
fi
grep -q 'operands(const Conv2d&, const Node& ' include/deeplab/graph/operands.h || {
    echo "include/deeplab/graph/operands.h reads no operands — tests/rules/operands.sh would send readers there — correct it"
    exit 1
}
