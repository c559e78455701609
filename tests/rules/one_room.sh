#!/usr/bin/env bash
# Rule 2: one library, one room: a third-party header is included in exactly one folder; the slow ones in one file.
# usage: one_room.sh SOURCE_DIR
set -euo pipefail
root=$1
cd "$root"

# pattern of the header's name | the folder that may include it | "one" where it may stand in a single file
# (tests/X belongs to the room src/X: it makes the files that src/X must refuse. The operating system's headers and the
# compiler's intrinsics are everybody's.)
rooms='
^fmt/                    src/base
^spdlog/                 src/base  one
^CLI/                    src/base  one
^zlib\.h$                src/base
^(mpi|nccl)\.h$          src/comm
^(oneapi/|dnnl)          src/cpu
^omp\.h$                 src/cpu
^(cu[a-zA-Z0-9_]*\.h(pp)?|cuda/.*|cub/.*|cudnn.*|cooperative_groups.*|nvtx3/.*|driver_types\.h)$  src/cuda
^nlohmann/               src/io    one
^toml\+\+/               src/io    one
^(hdf5|H5[A-Za-z]*)\.h$  src/io
^(jpeglib|jerror)\.h$    src/io
^png\.h$                 src/io
^(gtest|gmock)/          tests
^fuzzer/                  tests/fuzz
^benchmark/              benchmarks
^(unistd|fcntl|poll|sched|signal|stdlib|pthread|dlfcn|ucontext|sys/[a-z]+|sanitizer/[a-z_]+|[a-z]*intrin)\.h$  anywhere
'

grep -rnoE --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' '#include <[^>]*[./][^>]*>' \
    include src preprocess benchmarks tests |
    sed -E 's/^([^:]*):[0-9]+:#include <([^>]*)>/\1 \2/' | ROOMS=$rooms awk '
    BEGIN {
        lines = split(ENVIRON["ROOMS"], line, "\n")
        for (i = 1; i <= lines; ++i) {
            if (split(line[i], field, " ") < 2) continue
            pattern[++rooms] = field[1]; room[rooms] = field[2]; single[rooms] = field[3]
        }
    }
    {
        known = 0
        for (i = 1; i <= rooms && !known; ++i) {
            if ($2 !~ pattern[i]) continue
            known = 1
            if (room[i] == "anywhere") continue
            mirror = room[i]
            sub(/^src/, "tests", mirror)
            if (index($1, mirror "/") == 1) continue
            if (index($1, room[i] "/") != 1) { print $1 " includes <" $2 ">, which belongs to " room[i]; bad = 1 }
            if (single[i] == "one" && file[i] != "" && file[i] != $1) {
                print $1 " includes <" $2 ">, as " file[i] " does: one file is enough (it is slow to compile)"; bad = 1
            }
            file[i] = $1
        }
        if (!known) { print $1 " includes <" $2 ">, which is not in the table of tests/rules/one_room.sh"; bad = 1 }
        ++count
    }
    END { print count + 0 " includes of libraries and the system"; exit bad || count == 0 }'
