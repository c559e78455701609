// A library in NCCL's place. Compiled against the real header, too, where there is one.
#include "fake_nccl.h"

#include <nccl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "cuda/shim/streams.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/math/bf16.h"

using deeplab::cat;
using deeplab::testing::script;
using deeplab::testing::seen;
namespace shim = deeplab::shim;

static_assert(ncclSuccess == 0 && ncclUnhandledCudaError == 1 && ncclSystemError == 2 &&
              ncclInternalError == 3 && ncclInvalidArgument == 4 && ncclInvalidUsage == 5 &&
              ncclRemoteError == 6 && ncclInProgress == 7);
static_assert(ncclFloat32 == 7 && ncclFloat64 == 8 && ncclBfloat16 == 9 && ncclSum == 0);
static_assert(sizeof(ncclUniqueId) == 128);

struct ncclComm {
    int ranks = 1;
    int polls = 0;                     // still to be answered with "in progress"
    ncclResult_t state = ncclSuccess;  // after that
    bool used = false, finalized = false;
    std::vector<std::weak_ptr<const void>> graphs = {};  // that captured its operations
};

namespace {

struct Operation {
    ncclComm_t comm;
    shim::Point end;
};

struct Library {
    int depth = 0;  // of groups
    int started = 0;
    std::vector<ncclComm_t> grouped, aborted, alive;
    std::vector<Operation> operations;  // in the order of the calls
    bool variables_read = false;
    std::string detail;
};
Library& library() {
    static Library loaded;
    return loaded;
}

ncclResult_t refuse(const std::string& rule) {
    seen().broken.push_back(rule);
    library().detail = rule;
    return ncclInvalidUsage;
}

void read_variables() {
    if (std::exchange(library().variables_read, true)) return;
    for (const std::string& text : deeplab::comm::nccl_variables()) {
        const auto equals = text.find('=');
        seen().variables[text.substr(0, equals)] = text.substr(equals + 1);
    }
}

// One of the calls that may take a while begins.
ncclResult_t begin(ncclComm_t comm) {
    comm->state = library().started++ == script().fail_at ? ncclSystemError : ncclSuccess;
    comm->polls = script().polls;
    return comm->polls == 0 ? comm->state : ncclInProgress;
}

bool ready(ncclComm_t comm) {
    if (comm->polls == 0) return true;
    refuse("a communicator is used before its last call has ended");
    return false;
}

// Where what is enqueued next on the stream goes.
shim::StreamPointer place(cudaStream_t stream) {
    if (shim::capturing) {
        const auto inside = shim::capturing->streams.find(stream);
        if (inside != shim::capturing->streams.end()) return inside->second;
    }
    return stream == nullptr ? nullptr : stream->queue;
}

// Whether `first` is reached before `last`, whatever streams do.
bool comes_before(const shim::Point& first, const shim::Point& last) {
    std::map<const shim::Stream*, std::size_t> covered;
    const std::function<void(const shim::Point&)> cover = [&](const shim::Point& point) {
        std::size_t& items = covered[point.stream.get()];
        while (items < point.items) {
            const shim::Stream::Item& item = point.stream->items[items++];
            if (!item.work && item.after.stream) cover(item.after);
        }
    };
    if (last.stream) cover(last);  // else the host's order, in which `first` is not done
    return covered[first.stream.get()] >= first.items;
}

// Operations that a new one has to have an order with: those under way, and those of the capture
// that it becomes part of. A graph has one with what comes before and after its launch.
void forget_others() {
    std::erase_if(library().operations, [](const Operation& o) {
        const shim::StreamPointer& stream = o.end.stream;
        if (!stream || !stream->again) return !stream || stream->done >= o.end.items;
        if (!shim::capturing) return true;
        const auto& streams = shim::capturing->streams;
        return std::none_of(streams.begin(), streams.end(),
                            [&](const auto& entry) { return entry.second == stream; });
    });
}

// NCCL's guide: operations of several communicators need an order that all ranks share, or one that
// the library gives them.
bool ordered(ncclComm_t comm, const shim::StreamPointer& stream) {
    const auto& variables = seen().variables;
    const auto implicit = variables.find("NCCL_LAUNCH_ORDER_IMPLICIT");
    if (script().version >= 22600 && implicit != variables.end() && implicit->second == "1")
        return true;
    forget_others();
    const shim::Point end = stream ? stream->end(stream) : shim::Point{};
    const auto& operations = library().operations;
    return std::all_of(operations.begin(), operations.end(), [&](const Operation& before) {
        const bool launched_before = stream && stream->again && !before.end.stream->again;
        return before.comm == comm || launched_before || comes_before(before.end, end);
    });
}

template <class T>
void multiply(void* data, std::size_t count, int ranks) {
    auto* values = static_cast<T*>(data);
    for (std::size_t i = 0; i < count; ++i) values[i] = values[i] * static_cast<T>(ranks);
}

// Other ranks' values are this one's.
void add_ranks(void* data, std::size_t count, ncclDataType_t type, int ranks) {
    if (type == ncclFloat32) multiply<float>(data, count, ranks);
    if (type == ncclFloat64) multiply<double>(data, count, ranks);
    if (type != ncclBfloat16) return;
    auto* values = static_cast<std::uint16_t*>(data);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = deeplab::math::to_bf16(deeplab::math::from_bf16(values[i]) *
                                           static_cast<float>(ranks));
    }
}

// Does what was aborted, all at once.
void abort_now(const std::vector<ncclComm_t>& comms) {
    Library& l = library();
    for (const ncclComm_t comm : comms) {
        const bool captured = std::any_of(comm->graphs.begin(), comm->graphs.end(),
                                          [](const auto& graph) { return !graph.expired(); });
        if (captured) refuse("an abort would wait for ever: a graph holds its operations");
        std::erase(l.alive, comm);
    }
    for (const ncclComm_t other : l.alive) {
        if (other->used) refuse("an abort may wait for work of a communicator that is not aborted");
    }
    for (const ncclComm_t comm : comms) {
        std::erase_if(l.operations, [&](const Operation& o) { return o.comm == comm; });
        delete comm;
    }
    seen().alive = static_cast<int>(l.alive.size());
    if (l.alive.empty()) shim::hang.now = false;  // its kernels have left the device
}

}  // namespace

namespace deeplab::testing {

NcclScript& script() {
    static NcclScript now;
    return now;
}

NcclSeen& seen() {
    static NcclSeen all;
    return all;
}

void reload_nccl() {
    if (!library().alive.empty()) throw LogicError("a communicator of the last test lives");
    script() = {};
    seen() = {};
    library() = {};
    shim::hang = {};
}

}  // namespace deeplab::testing

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
    *version = script().version;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    read_variables();
    std::memset(id, 7, sizeof *id);
    return script().without_ids ? ncclSystemError : ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int,
                                    ncclConfig_t* config) {
    read_variables();
    seen().calls.emplace_back("set-up");
    seen().max_ctas = config->maxCTAs;
    if (config->blocking != 0) refuse("a communicator whose calls may block");
    if (id.internal[NCCL_UNIQUE_ID_BYTES - 1] != 7) return refuse("an id of nobody's");
    *comm = new ncclComm{.ranks = ranks};
    library().alive.push_back(*comm);
    seen().alive = static_cast<int>(library().alive.size());
    return begin(*comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
    if (comm->polls > 0) --comm->polls;
    *state = comm->polls == 0 ? comm->state : ncclInProgress;
    if (*state == ncclSuccess && script().fails_later && comm->used) *state = ncclRemoteError;
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    Library& l = library();
    seen().calls.emplace_back("all-reduce");
    if (!ready(comm)) return ncclInvalidArgument;
    if (from != to || op != ncclSum) return refuse("a sum in place, no more");
    const shim::StreamPointer queue = place(stream);
    if (!ordered(comm, queue)) return refuse("two communicators in parallel without an order");
    if (shim::capturing && queue && queue->again) comm->graphs.push_back(shim::capturing->life);
    comm->used = true;
    // Through memory of its own, with something else in between: early readers see that.
    const std::size_t bytes = count * (type == ncclFloat64 ? 8 : type == ncclFloat32 ? 4 : 2);
    const auto kept = std::make_shared<std::vector<unsigned char>>(bytes);
    shim::Uses uses;
    shim::use(uses, to);
    shim::enqueue(
        stream,
        [=] {
            std::memcpy(kept->data(), to, bytes);
            std::memset(to, 0xff, bytes);
        },
        uses);
    shim::enqueue(
        stream,
        [=, ranks = comm->ranks] {
            std::memcpy(to, kept->data(), bytes);
            add_ranks(to, count, type, ranks);
        },
        uses);
    l.operations.push_back({comm, queue ? queue->end(queue) : shim::Point{}});
    if (l.depth == 0) return begin(comm);
    if (std::find(l.grouped.begin(), l.grouped.end(), comm) == l.grouped.end())
        l.grouped.push_back(comm);
    return ncclInProgress;
}

ncclResult_t ncclGroupStart() {
    seen().calls.emplace_back("group");
    ++library().depth;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    Library& l = library();
    seen().calls.emplace_back("end of group");
    if (l.depth == 0) return refuse("a group ends that has not begun");
    if (--l.depth > 0) return ncclSuccess;
    ncclResult_t result = ncclSuccess;
    for (const ncclComm_t comm : std::exchange(l.grouped, {})) result = begin(comm);
    if (const auto aborted = std::exchange(l.aborted, {}); !aborted.empty()) abort_now(aborted);
    return result;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    seen().calls.emplace_back("shut-down");
    if (!ready(comm)) return ncclInvalidArgument;
    comm->finalized = true;
    return begin(comm);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    seen().calls.emplace_back("freed");
    if (!comm->finalized || !ready(comm)) return refuse("freed before its shut-down has ended");
    std::erase(library().alive, comm);
    std::erase_if(library().operations, [&](const Operation& o) { return o.comm == comm; });
    seen().alive = static_cast<int>(library().alive.size());
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    seen().calls.emplace_back("abort");
    if (library().depth > 0) {
        std::erase(library().grouped, comm);
        library().aborted.push_back(comm);
    } else {
        abort_now({comm});
    }
    return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
    return result == ncclRemoteError    ? "remote process exited or there was a network error"
           : result == ncclSystemError  ? "unhandled system error"
           : result == ncclInvalidUsage ? "invalid usage"
                                        : "another error";
}

const char* ncclGetLastError(ncclComm_t) {
    return library().detail.empty() ? script().detail.c_str() : library().detail.c_str();
}
}
