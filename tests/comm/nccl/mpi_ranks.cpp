// The ranks of NCCL's communicators are the processes of an MPI job: whoever links this file sums
// over them. Ranks whose calls differ, where NCCL would wait for ever or give wrong sums, are told
// how. Sums have the order of the ranks.
#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/math/bf16.h"
#include "other_ranks.h"

namespace deeplab::testing {
namespace {

bool done(MPI_Request& request) {
    int flag = 0;
    MPI_Test(&request, &flag, MPI_STATUS_IGNORE);
    return flag != 0;
}

// A call, and the communicator's id.
using Header = std::array<std::int64_t, 7>;

std::string text_of(const Header& h) {
    const char* type = h[4] == ncclFloat64 ? "f64" : h[4] == ncclFloat32 ? "f32" : "bf16";
    return cat("operation ", h[0], ", a sum of ", h[3], " ", type,
               h[1] == 0 ? std::string(", eager") : cat(", place ", h[2], " of capture ", h[1]),
               ", id ", h[5], ", number ", h[6], " of the process");
}

template <class T>
void add(void* sum, const std::byte* more, std::int64_t count) {
    auto* values = static_cast<T*>(sum);
    for (std::int64_t i = 0; i < count; ++i) {
        T value;
        std::memcpy(&value, more + static_cast<std::size_t>(i) * sizeof value, sizeof value);
        values[i] += value;
    }
}
// Rounded at every rank, as rings do.
void add_bf16(void* sum, const std::byte* more, std::int64_t count) {
    auto* values = static_cast<std::uint16_t*>(sum);
    for (std::int64_t i = 0; i < count; ++i) {
        std::uint16_t value = 0;
        std::memcpy(&value, more + static_cast<std::size_t>(i) * sizeof value, sizeof value);
        values[i] = math::to_bf16(math::from_bf16(values[i]) + math::from_bf16(value));
    }
}

// Headers first: only equal ones have values of one size.
class MpiSum final : public OtherRanks::Sum {
public:
    MpiSum(MPI_Comm comm, int rank, int ranks, const Header& own, void* data)
        : comm_(comm),
          rank_(rank),
          headers_(static_cast<std::size_t>(ranks)),
          own_(own),
          data_(data) {
        MPI_Iallgather(own_.data(), static_cast<int>(own_.size()), MPI_INT64_T, headers_.data(),
                       static_cast<int>(own_.size()), MPI_INT64_T, comm_, &request_);
    }

    bool arrived() override {
        if (!done(request_)) return false;
        if (values_.empty() && !compared()) return true;
        if (!done(request_)) return false;
        add_all();
        return true;
    }

private:
    bool compared() {
        for (std::size_t rank = 0; rank < headers_.size(); ++rank) {
            if (headers_[rank] == own_) continue;
            different = cat("ranks differ: rank ", rank_, " has ", text_of(own_), "; rank ", rank,
                            " has ", text_of(headers_[rank]));
            return false;
        }
        const std::size_t bytes = static_cast<std::size_t>(own_[3]) * bytes_of(own_[4]);
        values_.resize(headers_.size() * bytes + 1);  // not empty
        MPI_Iallgather(data_, static_cast<int>(bytes), MPI_BYTE, values_.data(),
                       static_cast<int>(bytes), MPI_BYTE, comm_, &request_);
        return true;
    }
    void add_all() {
        const std::size_t bytes = static_cast<std::size_t>(own_[3]) * bytes_of(own_[4]);
        if (bytes == 0) return;
        std::memcpy(data_, values_.data(), bytes);
        for (std::size_t rank = 1; rank < headers_.size(); ++rank) {
            const std::byte* more = values_.data() + rank * bytes;
            if (own_[4] == ncclFloat64) add<double>(data_, more, own_[3]);
            if (own_[4] == ncclFloat32) add<float>(data_, more, own_[3]);
            if (own_[4] == ncclBfloat16) add_bf16(data_, more, own_[3]);
        }
    }

    MPI_Comm comm_;
    int rank_;
    std::vector<Header> headers_;
    Header own_;
    void* data_;
    std::vector<std::byte> values_;
    MPI_Request request_ = MPI_REQUEST_NULL;
};

class MpiRanks final : public OtherRanks {
public:
    MpiRanks(const ncclUniqueId& id, int rank, int ranks) : rank_(rank), ranks_(ranks) {
        std::memcpy(&id_, id.internal, sizeof id_);
        int own = -1, all = -1;
        MPI_Comm_rank(MPI_COMM_WORLD, &own);
        MPI_Comm_size(MPI_COMM_WORLD, &all);
        if (own != rank || all != ranks)
            throw LogicError("the stand-in's communicators are of all ranks, in their order");
        MPI_Comm_idup(MPI_COMM_WORLD, &comm_, &request_);
    }
    ~MpiRanks() override {
        if (leaving_) MPI_Comm_free(&comm_);  // else others may still be in it
    }
    MpiRanks(const MpiRanks&) = delete;
    MpiRanks& operator=(const MpiRanks&) = delete;

    bool joined() override { return done(request_); }
    void leave() override {
        leaving_ = true;
        MPI_Ibarrier(comm_, &request_);
    }
    bool left() override { return done(request_); }
    std::unique_ptr<Sum> start(const NcclCall& c, void* data) override {
        const Header own = {c.number, c.capture, c.place, c.count, c.type, id_, c.order};
        return std::make_unique<MpiSum>(comm_, rank_, ranks_, own, data);
    }

private:
    int rank_, ranks_;
    std::int64_t id_ = 0;
    bool leaving_ = false;
    MPI_Comm comm_ = MPI_COMM_NULL;
    MPI_Request request_ = MPI_REQUEST_NULL;
};

const bool used = [] {
    make_other_ranks() = [](const ncclUniqueId& id, int rank,
                            int ranks) -> std::unique_ptr<OtherRanks> {
        return std::make_unique<MpiRanks>(id, rank, ranks);
    };
    return true;
}();

}  // namespace
}  // namespace deeplab::testing
