#pragma once
// What every backend obeys: keep the model's state, compile a plan, run it.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/graph/memory_plan.h"
#include "deeplab/graph/plan.h"
#include "deeplab/math/philox.h"

namespace deeplab::exec {

// Neither is null; of one rank where nothing is to be exchanged. They may be in use at the same
// time, so they must be distinct objects with distinct MPI/NCCL communicators.
struct Communicators {
    comm::Communicator* gradients = nullptr;   // all ranks
    comm::Communicator* batch_norm = nullptr;  // all ranks, the node's, or self: the user's sync_bn
};

struct CompileOptions {
    std::uint64_t seed = 0;  // of dropout
    bool overlap = true;  // finish a bucket's all-reduce in Update (true) or right after its start:
                          // same bits
    // How gradients travel between ranks. bf16: each rank's sum over its micro-batches is rounded,
    // the ranks' are added, and the sum is rounded again; what is kept and applied is f32. One rank
    // rounds nothing.
    DType gradient_type = DType::f32;
    bool poison = false;  // fill dead arena memory with NaN during a run: for tests of the memory
                          // plan
    bool cuda_graph = true;  // CUDA: capture the launches of a micro-batch, then replay them
    // Where an op can be done in several ways: find the fastest by timing what is not known yet.
    // Takes minutes the first time, and is collective over all ranks of the backend.
    bool tune = false;
    bool time_nodes = false;  // node_seconds() tells; each node waits for the one before it
    // The same plan, ranks and threads give the same bits (src/README.md, "The same bits again"). A
    // backend that cannot do that throws UsageError; the CPU's always does it.
    bool deterministic = true;
    // CUDA: how long finish() waits for sums over ranks that the device has under way before it
    // throws DeviceError, in seconds; 0: without end.
    double wait_limit_s = 600;
};

// A sample as it was decoded, and how its crop is made from it.
struct DecodedSample {
    std::span<const std::uint8_t> pixels;  // (height, width, 3)
    std::span<const std::uint8_t> labels;  // (height, width)
    std::span<const std::int32_t> crop;    // math::CropHeader and its tables (math/crop.h)
    // Its place among those of Backend::keep_samples; none: not kept. Of a sample that has been in
    // a run before, pixels and labels are not looked at.
    std::int64_t number = -1;
};

// Spans are host memory, read during the call that brings them only.
struct MicroBatch {
    std::span<const float> images;         // (N,3,H,W), normalised
    std::span<const std::uint8_t> labels;  // (N,1,H,W); empty for a plan without loss
    // N, instead of images and labels: for a backend that takes_decoded_samples(), of a plan with
    // loss. The pixels are those of the images that the host would make.
    std::span<const DecodedSample> decoded = {};
    std::span<const math::SampleKey> samples;  // N; empty for a plan without dropout
    double learning_rate = 0;                  // read on the last micro-batch
    double valid_pixels = 0;  // of the global batch, all ranks and micro-batches; read on the last
                              // micro-batch
    bool first_micro = true, last_micro = true;
    // Images and labels, or decoded samples, are those of the last prefetch(): what it took is
    // used.
    bool prefetched = false;
    // Called between the nodes before Update, on the thread that start() was called on: parameters
    // and momentum are those of the step before, running statistics may be this one's. By backends
    // on the host, which run a plan node by node; empty: nothing.
    std::function<void()> between_nodes = {};
};

struct MicroBatchResult {
    double loss_sum = 0;  // this rank's micro-batch, over its valid pixels
    bool finite = true;   // last micro-batch: the averaged gradient was finite and the update was
                          // applied
    double gradient_norm = 0;   // last micro-batch: of the averaged gradient, before clipping
    double comm_exposed_s = 0;  // time this rank waited for exchanges and all-reduces
};

// How the ways to do ops were found for the plans that a backend has compiled to be tuned.
struct EngineCounts {
    std::int64_t timed = 0, known = 0;  // here, by timing; before, or by another rank
};

class Executable {
public:
    virtual ~Executable() = default;
    // A micro-batch begins: on a device it is under way when this returns, on the host it is over.
    virtual void start(const MicroBatch& micro_batch) = 0;
    // Waits for the micro-batch that start() began; comes before the next start().
    virtual MicroBatchResult finish() = 0;
    MicroBatchResult run(const MicroBatch& micro_batch) {
        start(micro_batch);
        return finish();
    }
    // Takes the batch (images and labels, or decoded samples; nothing else is looked at) of a
    // coming micro-batch, while the present one is under way: the next start() is of a micro-batch
    // that is `prefetched`, or forgets it. Same bits with and without. DataError as start() would
    // throw it.
    virtual void prefetch(const MicroBatch& next) { static_cast<void>(next); }
    // A tensor with `keep` set, as f32 N C H W, as the last run left it.
    virtual std::vector<float> download(graph::TensorId tensor) = 0;
    virtual const graph::MemoryPlan& memory() const = 0;
    // How long each node of the plan took in the last run; empty without time_nodes.
    virtual std::vector<double> node_seconds() const { return {}; }
};

enum class Slot { value, gradient, momentum };

// Owns the flat parameter, gradient and momentum buffers and the running statistics, shared by
// every plan it compiles.
class Backend {
public:
    virtual ~Backend() = default;
    virtual std::string description() const = 0;  // "CPU: oneDNN 2.6.3, 2 threads"
    // Of a device: the same on two ranks when they use one (host and place on its bus: each may see
    // its device as number 0). Empty: the host's processors.
    virtual std::string identity() const { return ""; }
    // Whether plans and state lie in the host's memory; else in a device's of its own, which
    // `description` names.
    virtual bool on_host() const { return true; }
    // Host memory that the state and the plans compiled so far take.
    virtual std::int64_t host_bytes() const { return 0; }
    // All zero where there is nothing to choose.
    virtual EngineCounts engines() const { return {}; }
    // Whether a micro-batch may bring decoded samples, from which the device makes the crops.
    virtual bool takes_decoded_samples() const { return false; }
    // Device memory for all samples that micro-batches will bring, by number; pixels: width *
    // height of each. What comes first with a micro-batch stays there for every executable. Once,
    // after compile(), so that it takes what is left; DeviceError with both sizes where that does
    // not suffice. Of a backend that takes_decoded_samples().
    virtual void keep_samples(std::span<const std::int64_t> pixels) {
        static_cast<void>(pixels);
        throw LogicError("keep_samples() is for backends that take decoded samples");
    }

    // Allocates the state for plans with these parameters; zero. Call once, before anything below.
    virtual void allocate(const graph::Plan& plan) = 0;

    // Host data is f32 in the parameter's own shape and order (K,C,R,S).
    virtual void upload(const graph::Parameter& parameter, Slot slot,
                        std::span<const float> data) = 0;
    virtual std::vector<float> download(const graph::Parameter& parameter, Slot slot) = 0;
    virtual void upload(const graph::State& state, std::span<const float> data) = 0;
    virtual std::vector<float> download(const graph::State& state) = 0;

    // Throws LogicError when the plan's parameters are not those allocated; DeviceError when memory
    // does not suffice. The executables of one backend may share their arena: a run invalidates
    // what another's run kept.
    virtual std::unique_ptr<Executable> compile(const graph::Plan& plan,
                                                const Communicators& communicators,
                                                const CompileOptions& options) = 0;
};

}  // namespace deeplab::exec
