// A library in NCCL's place. Compiled against the real header, too, where there is one.
#include "fake_nccl.h"

#include <nccl.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "cuda/shim/device.h"
#include "cuda/shim/record.h"
#include "cuda/shim/streams.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "other_ranks.h"

using deeplab::cat;
using deeplab::testing::bytes_of;
using deeplab::testing::OtherRanks;
using deeplab::testing::script;
using deeplab::testing::seen;
namespace shim = deeplab::shim;

static_assert(ncclSuccess == 0 && ncclUnhandledCudaError == 1 && ncclSystemError == 2 &&
              ncclInternalError == 3 && ncclInvalidArgument == 4 && ncclInvalidUsage == 5 &&
              ncclRemoteError == 6 && ncclInProgress == 7);
static_assert(ncclFloat32 == 7 && ncclFloat64 == 8 && ncclBfloat16 == 9 && ncclSum == 0);
static_assert(sizeof(ncclUniqueId) == 128);

namespace {
// A sum that was called for: of one launch, or of every launch of the graph that captured it.
struct Reduction {
    ncclComm_t comm;
    deeplab::testing::NcclCall call;
    void* data;
    std::int64_t ran = 0;                    // of the process's operations
    std::vector<unsigned char> values = {};  // on their way
    std::shared_ptr<OtherRanks::Sum> sum = {};
    bool dropped = false;  // by an abort: the device goes on without it
};
}  // namespace

struct ncclComm {
    std::unique_ptr<OtherRanks> others;
    std::function<bool()> come = {};   // those whom the last call waits for
    int polls = 0;                     // still to be answered with "in progress"
    ncclResult_t state = ncclSuccess;  // after that
    bool used = false, finalized = false;
    std::int64_t ran = 0, place = 0;  // operations; the last one's place in the last capture
    std::vector<std::weak_ptr<const void>> graphs = {};  // that captured its operations
    std::vector<std::weak_ptr<Reduction>> reductions = {};
};

namespace {

struct Operation {
    ncclComm_t comm;
    shim::Point begin, end;
};

struct Library {
    int depth = 0;         // of groups
    int started = 0;       // calls
    std::int64_t ran = 0;  // operations
    std::int64_t ids = 0;
    std::vector<ncclComm_t> grouped, aborted, alive;
    std::vector<Operation> operations;  // in the order of the calls
    std::vector<std::shared_ptr<Reduction>> abandoned;
    bool variables_read = false;
    std::string detail;
};
Library& library() {
    static Library loaded;
    return loaded;
}

ncclResult_t refuse(const std::string& rule) {
    seen().broken.push_back(rule);
    std::fprintf(stderr, "the stand-in for NCCL refuses: %s\n", rule.c_str());
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

bool in_progress(ncclComm_t comm) {
    if (comm->come && comm->come()) comm->come = nullptr;
    return comm->polls != 0 || comm->come;
}

// One of the calls that may take a while begins.
ncclResult_t begin(ncclComm_t comm) {
    if (comm->state == ncclInvalidUsage) return comm->state;  // for good
    comm->state = library().started++ == script().fail_at ? ncclSystemError : ncclSuccess;
    comm->polls = script().polls;
    return in_progress(comm) ? ncclInProgress : comm->state;
}

bool ready(ncclComm_t comm) {
    if (!in_progress(comm)) return true;
    refuse("a communicator is used before its last call has ended");
    return false;
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

bool orders_by_itself() {
    const auto& variables = seen().variables;
    const auto implicit = variables.find("NCCL_LAUNCH_ORDER_IMPLICIT");
    return script().version >= 22600 && implicit != variables.end() && implicit->second == "1";
}

// NCCL's guide: operations of several communicators need an order that all ranks share, or one that
// the library gives them.
bool ordered(ncclComm_t comm, const shim::StreamPointer& stream) {
    if (orders_by_itself()) return true;
    const shim::Point end = stream ? stream->end(stream) : shim::Point{};
    const auto& operations = library().operations;
    return std::all_of(operations.begin(), operations.end(), [&](const Operation& before) {
        const bool launched_before = stream && stream->again && !before.end.stream->again;
        return before.comm == comm || launched_before || comes_before(before.end, end);
    });
}

shim::Type type_of(std::int64_t type) {
    return type == ncclFloat64   ? shim::Type::f64
           : type == ncclFloat32 ? shim::Type::f32
                                 : shim::Type::bf16;
}

// Through memory of its own, with something else in between: early readers see that.
void start(Reduction& r) {
    const std::size_t bytes = static_cast<std::size_t>(r.call.count) * bytes_of(r.call.type);
    if (!shim::may_hold(r.data, bytes, type_of(r.call.type)))
        shim::complain("a sum over ranks reads memory that was last written as another type");
    auto* const data = static_cast<unsigned char*>(r.data);  // null where there are none
    r.values.assign(data, data + bytes);
    std::fill_n(data, bytes, 0xff);
    if (r.dropped) return;
    deeplab::testing::NcclCall call = r.call;
    call.number = ++r.comm->ran;
    call.order = r.ran = ++library().ran;
    r.sum = r.comm->others->start(call, r.values.data());
}

bool arrived(Reduction& r) {
    if (r.dropped) return true;
    if (r.sum == nullptr || !r.sum->arrived()) return false;
    if (!r.sum->different.empty()) {  // the others never come
        refuse(r.sum->different);
        r.comm->state = ncclInvalidUsage;
        r.sum = nullptr;
        return false;
    }
    std::copy(r.values.begin(), r.values.end(), static_cast<unsigned char*>(r.data));
    if (r.ran == shim::setting("DEEPLAB_TEST_NCCL", "nan", 0))
        std::memset(r.data, 0xff, r.values.size());
    shim::note_written(r.data, r.values.size(), type_of(r.call.type));
    r.sum = nullptr;
    return true;
}

// The call's place in its capture.
deeplab::testing::NcclCall numbered(ncclComm_t comm, bool captured, std::size_t count,
                                    ncclDataType_t type) {
    deeplab::testing::NcclCall call{.count = static_cast<std::int64_t>(count), .type = type};
    if (!captured) return call;
    if (comm->graphs.empty() || comm->graphs.back().lock() != shim::capturing->life) {
        comm->graphs.push_back(shim::capturing->life);
        comm->place = 0;
    }
    call.capture = static_cast<std::int64_t>(comm->graphs.size());
    call.place = ++comm->place;
    return call;
}

// With an order of its own the library starts what is called for in the order of the calls.
void keep_order(ncclComm_t comm, const shim::StreamPointer& queue) {
    if (!orders_by_itself() || !queue) return;
    for (const Operation& before : library().operations) {
        const shim::StreamPointer& stream = before.begin.stream;
        if (before.comm == comm || !stream || stream == queue || stream->again != queue->again)
            continue;
        queue->items.push_back({nullptr, before.begin});
    }
}

bool in_a_graph(ncclComm_t comm) {
    return std::any_of(comm->graphs.begin(), comm->graphs.end(),
                       [](const auto& graph) { return !graph.expired(); });
}

// Does what was aborted, all at once.
void abort_now(const std::vector<ncclComm_t>& comms) {
    Library& l = library();
    for (const ncclComm_t comm : comms) {
        if (in_a_graph(comm)) refuse("an abort would wait for ever: a graph holds its operations");
        std::erase(l.alive, comm);
    }
    for (const ncclComm_t other : l.alive) {
        if (other->used) refuse("an abort may wait for work of a communicator that is not aborted");
    }
    for (const ncclComm_t comm : comms) {
        std::erase_if(l.operations, [&](const Operation& o) { return o.comm == comm; });
        for (const auto& weak : comm->reductions) {
            const auto reduction = weak.lock();
            if (!reduction) continue;
            reduction->dropped = true;
            l.abandoned.push_back(reduction);  // others may still send to its memory
        }
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
    const std::int64_t number = ++library().ids;
    std::memcpy(id->internal, &number, sizeof number);
    return script().without_ids ? ncclSystemError : ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
    read_variables();
    seen().calls.emplace_back("set-up");
    seen().max_ctas = config->maxCTAs;
    if (config->blocking != 0) refuse("a communicator whose calls may block");
    if (id.internal[NCCL_UNIQUE_ID_BYTES - 1] != 7) return refuse("an id of nobody's");
    *comm = new ncclComm{.others = deeplab::testing::make_other_ranks()(id, rank, ranks)};
    (*comm)->come = [others = (*comm)->others.get()] { return others->joined(); };
    library().alive.push_back(*comm);
    seen().alive = static_cast<int>(library().alive.size());
    return begin(*comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
    if (comm->polls > 0) --comm->polls;
    *state = in_progress(comm) ? ncclInProgress : comm->state;
    if (*state == ncclSuccess && script().fails_later && comm->used) *state = ncclRemoteError;
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    Library& l = library();
    seen().calls.emplace_back("all-reduce");
    if (!ready(comm)) return ncclInvalidArgument;
    if (from != to || op != ncclSum) return refuse("a sum in place, no more");
    const shim::StreamPointer queue = shim::place(stream);
    const bool captured = queue && queue->again;
    forget_others();
    if (!ordered(comm, queue)) return refuse("two communicators in parallel without an order");
    if (!captured && !comm->graphs.empty() && shim::graph_is_pending())
        return refuse("an operation beside a graph that has some (NCCL_GRAPH_MIXING_SUPPORT=0)");
    comm->used = true;
    const auto reduction = std::make_shared<Reduction>(
        Reduction{comm, numbered(comm, captured, count, type), to});
    comm->reductions.push_back(reduction);
    std::erase_if(comm->reductions, [](const auto& weak) { return weak.expired(); });
    shim::Uses uses;
    shim::use(uses, to);
    keep_order(comm, queue);
    shim::enqueue(
        stream, [reduction] { start(*reduction); }, uses);
    const shim::Point begun = queue ? queue->end(queue) : shim::Point{};
    shim::Stream::Item end;
    end.work = [] {};
    end.arrived = [reduction] { return arrived(*reduction); };
    end.uses = uses;
    end.takes = script().sum_takes;
    shim::enqueue(stream, std::move(end));
    l.operations.push_back({comm, begun, queue ? queue->end(queue) : shim::Point{}});
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
    if (in_a_graph(comm)) refuse("a shut-down would wait for ever: a graph holds its operations");
    comm->finalized = true;
    comm->others->leave();
    comm->come = [comm] { return comm->others->left(); };
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
