#!/usr/bin/env bash
# The same ranks and threads give the same bits (src/README.md): nothing sums floating-point numbers in the order in which
# threads happen to arrive, and work is divided the same way each time.
# usage: same_bits.sh SOURCE_DIR
set -euo pipefail
root=$1
cd "$root"

# An OpenMP reduction adds the threads' sums in any order, whatever the type's name; integer atomics are fine.
refused='reduction *\(|#pragma omp (atomic|critical)|schedule *\( *(dynamic|guided|auto|runtime)|omp_set_dynamic *\( *[^0 )]'
refused+='|atomic(_ref)? *< *(float|double|long double)|atomicAdd *\(|atomic_fetch_add|std::execution::par'
refused+='|-ffast-math|-Ofast|-funsafe-math|-fassociative-math|--use_fast_math'

found() { sed -E 's@(//|^[[:space:]]*#[^p]).*@@' "$@" | grep -nE -- "$refused"; }

# The pattern catches what it is for.
while read -r line; do
    if ! found <<< "$line" > /dev/null; then
        echo "the rule does not see: $line"
        exit 1
    fi
done << 'LINES'
#pragma omp parallel for reduction(+ : sum)
#pragma omp parallel for schedule(dynamic)
#pragma omp for schedule( guided, 4)
#pragma omp atomic
std::atomic<float> sum;
std::atomic_ref<double> cell(sum[i]);
atomicAdd(&sum[c], value);
target_compile_options(deeplab_cpu PRIVATE -ffast-math)
LINES

failed=0 count=0
while read -r file; do
    count=$((count + 1))
    if lines=$(found "$file"); then
        echo "$file: the order of a sum, or of the work, would be left to chance:"
        echo "$lines"
        failed=1
    fi
done < <(find src include preprocess cmake CMakeLists.txt \
    -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cmake' -o -name CMakeLists.txt)
echo "$count files"
((failed == 0 && count > 0))
