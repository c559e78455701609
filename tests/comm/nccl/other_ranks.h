#pragma once
// Who else is in a communicator of the library in NCCL's place: ranks in name only, who hold what
// this one holds, or the processes of an MPI job (mpi_ranks.cpp), whose values are summed.

#include <nccl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace deeplab::testing {

// What all ranks of a communicator do at the same time.
struct NcclCall {
    std::int64_t number = 0;   // of the communicator's operations, as they run
    std::int64_t order = 0;    // of the process's operations
    std::int64_t capture = 0;  // of the communicator's; 0: launched eagerly
    std::int64_t place = 0;    // in its capture
    std::int64_t count = 0, type = 0;
};

class OtherRanks {
public:
    // A sum under way, in memory that belongs to it until it is there.
    class Sum {
    public:
        virtual ~Sum() = default;
        virtual bool arrived() = 0;
        std::string different;  // arrived, and no sum: how another rank's call differs
    };

    virtual ~OtherRanks() = default;
    // Set-up and shut-down: whether all ranks have come there.
    virtual bool joined() = 0;
    virtual void leave() = 0;
    virtual bool left() = 0;
    virtual std::unique_ptr<Sum> start(const NcclCall& call, void* data) = 0;
};

using MakeOtherRanks = std::unique_ptr<OtherRanks> (*)(const ncclUniqueId& id, int rank, int ranks);
// Of communicators that are made from now on.
MakeOtherRanks& make_other_ranks();

inline std::size_t bytes_of(std::int64_t type) {
    return type == ncclFloat64 ? 8 : type == ncclFloat32 ? 4 : 2;
}

}  // namespace deeplab::testing
