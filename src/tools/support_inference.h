#pragma once
// What deeplab-eval and deeplab-predict share: weights on a backend, and files of scores.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "deeplab/comm/communicator.h"
#include "deeplab/exec/backend.h"
#include "deeplab/weights/checkpoint.h"

namespace deeplab::tools {

struct Network {
    std::filesystem::path file;  // that the weights came from
    weights::WeightsInfo info;
    std::unique_ptr<exec::Backend> backend;
};

// WEIGHTS: a checkpoint, a run's folder, or safetensors of deeplab-weights, told apart by content.
// output_stride 0: the one it was trained with. Collective over `world`.
Network load_network(const std::string& weights, std::int64_t output_stride,
                     const std::string& device, std::int64_t threads, comm::Communicator& world);

// Predictions as files: the classes' numbers as a palette PNG, or the labels that the data set's
// own masks have (ClassInfo::labels) as a gray PNG: of 8 bits, of 16 where a label of the set needs
// them.
class MaskEncoder {
public:
    // `whose` says whose classes they are, for the log: where the data set's labels are wanted and
    // are the classes' numbers, the files are the same, and the log says so.
    MaskEncoder(const data::ClassTable& classes, bool original, const std::string& whose);

    // `mask` has classes alone, no ignored pixel.
    std::vector<std::uint8_t> operator()(const io::Mask& mask) const;

private:
    std::vector<io::Rgb> palette_;
    std::vector<std::uint16_t> labels_;  // of each class; empty: the class's number
    int bits_ = 8;
};

// NumPy's .npy, version 1.0: float32, C order. Atomic.
void write_npy(const std::filesystem::path& path, std::span<const float> values,
               std::span<const std::int64_t> shape);

// UsageError where `path` is there already: the caller has no leave to replace it (--force).
void refuse_existing(const std::filesystem::path& path);

void write_atomically(const std::filesystem::path& path, std::span<const std::uint8_t> bytes);

}  // namespace deeplab::tools
