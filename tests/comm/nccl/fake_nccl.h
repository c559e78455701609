#pragma once
// What tests tell the library in NCCL's place, and what it has seen. All ranks but one exist in
// name only: they hold what this one holds, so a sum is a product. Rules of NCCL's documentation
// are enforced; who breaks one finds it in `seen().broken`, also where the call is refused. A
// program that is linked with mpi_ranks.cpp has ranks that exist.
//
// To a program that a test starts it says by DEEPLAB_TEST_NCCL:
//   nan=N  the Nth sum of the process is no number

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace deeplab::testing {

struct NcclScript {
    int version = 22809;
    // How often a call that does not end at once (set-up, all-reduce or group, shut-down) says that
    // it is in progress; negative: always.
    int polls = 0;
    int fail_at = -1;          // which of those calls fails, from 0
    bool fails_later = false;  // what was enqueued fails from now on: another rank is gone
    bool without_ids = false;  // no id can be made
    std::string detail;        // ncclGetLastError
    // Of a sum on the device's clock (cuda/shim/streams.h); read when it is called for.
    std::int64_t sum_takes = 1000;
};

struct NcclSeen {
    std::vector<std::string> calls;  // "set-up", "all-reduce", "group", "end of group",
                                     // "shut-down", "freed", "abort"
    // Variables of NCCL's when the first communicator was made, which is when NCCL reads them.
    std::map<std::string, std::string> variables;
    std::vector<std::string> broken;
    int max_ctas = 0;  // of the last set-up
    int alive = 0;     // communicators
};

NcclScript& script();
NcclSeen& seen();
// A library that was just loaded; no communicator lives.
void reload_nccl();

}  // namespace deeplab::testing
