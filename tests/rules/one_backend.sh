#!/usr/bin/env bash
# One way to make a backend: which device a rank takes, how sums travel and where the engines of convolutions come from is
# decided in one place (include/deeplab/tools/support.h), so that no program measures another device, or times engines anew.
# usage: one_backend.sh SOURCE_DIR
set -euo pipefail
root=$1
cd "$root"

# File (or folder, with a slash at its end) | the function it may name | why
allowed='
include/deeplab/cpu/cpu_backend.h        cpu   the declaration
src/cpu/cpu_backend.cpp                  cpu   the definition
src/cpu/no_onednn.cpp                    cpu   the definition where oneDNN is missing
include/deeplab/cuda/cuda_backend.h      cuda  the declaration
src/cuda/cuda_backend.cpp                cuda  the definition
src/cuda/no_cuda.cpp                     cuda  the definition where CUDA is missing
src/tools/support.cpp                    both  the one place
benchmarks/full_size/steps.cpp           cpu   what is compared with PyTorch on the CPU
tests/harness/on_cpu.cpp                 cpu   the backend of tests that run on either
tests/harness/on_cuda.cpp                cuda  the same: the first engine that runs, nothing timed
tests/cuda/device_choice_test.cpp        cuda  that it says what is missing
tests/cuda/executor/nccl_test.cpp        cuda  options of its own: sums by NCCL
tests/cuda/stand_in/                     cuda  the backend itself, with options of its own, on the host
tests/                                   cpu   what is compared with, or tested of, the CPU, which has threads to choose and no more
'

found=$(grep -rnoE --include='*.h' --include='*.cpp' --include='*.cu' 'make_(cpu|cuda)_backend' include src preprocess benchmarks tests)
ALLOWED=$allowed awk -F: '
    BEGIN {
        lines = split(ENVIRON["ALLOWED"], line, "\n")
        for (i = 1; i <= lines; ++i) {
            if (split(line[i], field, " ") < 3) continue
            place[++count] = field[1]; kind[count] = field[2]
        }
    }
    {
        called = $3 ~ /cuda/ ? "cuda" : "cpu"
        ok = 0
        for (i = 1; i <= count && !ok; ++i) {
            if (kind[i] != "both" && kind[i] != called) continue
            ok = $1 == place[i] || (place[i] ~ /\/$/ && index($1, place[i]) == 1)
            if (ok) used[i] = 1
        }
        if (!ok) {
            print $1 ":" $2 ": " $3 " — its device, communicators and engines would be chosen in a second place — use " \
                "tools::make_backend, or testing::device in a test"
            bad = 1
        }
    }
    END {
        for (i = 1; i <= count; ++i) if (!used[i]) { print "tests/rules/one_backend.sh allows " place[i] " what it does not do"; bad = 1 }
        print NR " mentions in " count " places"
        exit bad
    }' <<< "$found"
