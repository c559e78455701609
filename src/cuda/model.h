#pragma once
// The model's state on one device, and what all plans of a backend share there.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "deeplab/cuda/cuda_backend.h"
#include "descriptor.h"
#include "engine_choices.h"
#include "run_memory.h"
#include "runtime.h"
#include "transfers.h"

namespace deeplab::cuda {

// The samples of a split, each at its place once it has come: the image, then the labels.
struct KeptSamples {
    DeviceBuffer memory;
    std::vector<std::int64_t> places;  // bytes; one more than samples
    std::vector<bool> present;

    // `number` as a micro-batch gives it.
    bool keeps(std::int64_t number) const { return number >= 0 && !places.empty(); }
    bool has(std::int64_t number) const {
        return keeps(number) && present[static_cast<std::size_t>(number)];
    }
    std::byte* at(std::int64_t number) const {
        return memory.as<std::byte>() + places[static_cast<std::size_t>(number)];
    }
    std::int64_t bytes(std::int64_t number) const {
        const auto i = static_cast<std::size_t>(number);
        return places[i + 1] - places[i];
    }
};

// Pieces of different types behind one another.
constexpr std::int64_t apart(std::int64_t bytes) { return (bytes + 15) / 16 * 16; }
// Of a decoded sample: the image, then the labels.
constexpr std::int64_t sample_bytes(std::int64_t pixels) {
    return apart(3 * pixels) + apart(pixels);
}

struct Model {
    // Makes the device current for this thread.
    explicit Model(const CudaOptions& options);
    // What is enqueued uses the memory that goes away.
    ~Model();
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    CudaOptions options;
    Stream stream;
    Stream copies;  // batches on their way, beside the micro-batch under way
    CudnnHandle cudnn;
    Target target;
    EngineChoices engines;

    // Flat, in the plan's offsets; within a convolution's weight in the order K R S C/groups.
    DeviceBuffer values, gradients, momenta, states;
    // What convolutions of bf16 activations read; made when the first plan of such is compiled,
    // written by the updates of such plans, stale after an upload and after other plans' updates.
    DeviceBuffer bf16;
    bool bf16_stale = true;
    std::int64_t parameter_count = 0, state_count = 0;

    // What the plans' runs use one after another. There is one arena, one scratch memory and one
    // page of tickets for all launches of `stream`, which come one after another: launches of
    // another stream that need such memory need their own.
    RunMemory arena{stream, "activations"}, scratch{stream, "scratch"};
    DeviceBuffer tickets;

    Transfers transfers{stream};

    // No launch knows an address in it. Written on `copies` alone: what a batch waits for includes
    // what came with those before it.
    KeptSamples kept;
};

}  // namespace deeplab::cuda
