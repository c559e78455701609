#pragma once
// What deeplab-eval --save-logits leaves: the network's own output, and what was done on either
// side of it, so that another program can redo every step and compare (tests/golden/evaluate.py).

#include <cstdint>
#include <filesystem>
#include <utility>
#include <vector>

#include "deeplab/comm/communicator.h"
#include "deeplab/data/shard.h"
#include "deeplab/evaluate/evaluator.h"
#include "deeplab/io/value.h"
#include "deeplab/weights/checkpoint.h"

namespace deeplab::tools {

// DIR/IIIIII-P.npy: logits of image I's pass P, float32 (classes, height, width), before any
// resize. DIR/logits.json: what the caller says of the evaluation, and for each image, in the
// split's order, the sizes and the CRC-32 of the 8-bit image and mask that were compared and of
// each pass's 8-bit picture and padded network input (float32 little-endian, C order).
class SavedLogits {
public:
    explicit SavedLogits(std::filesystem::path dir) : dir_(std::move(dir)) {}

    // Removes the list of an earlier evaluation: its files are about to be replaced. By one rank.
    static void clear(const std::filesystem::path& dir);
    void add(const evaluate::Pass& pass);  // of the image at hand
    // Image and truth as the protocol cut them.
    void finish_image(std::int64_t index, const data::Record& record, const io::Image& image,
                      const io::Mask& truth);
    // Collective: the images of all ranks, written by rank 0.
    void write_manifest(comm::Communicator& world, const weights::WeightsInfo& network,
                        io::Object description);

private:
    struct Pass {
        io::Object entry;
        std::vector<float> logits;
        std::vector<std::int64_t> shape;
    };
    std::filesystem::path dir_;
    std::vector<Pass> passes_;  // of the image at hand
    io::Array images_;          // of this rank
};

}  // namespace deeplab::tools
