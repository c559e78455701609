#pragma once
// A packed split of small generated images whose labels can be learned, for tests of loader and
// training.

#include <cstdint>
#include <filesystem>
#include <string>

namespace deeplab::testing {

struct TinyDataset {
    std::string split = "train";
    int images = 24, classes = 4, shards = 2;
    std::uint64_t seed = 1;
    std::int64_t width = 90, height = 72;  // grows by a few pixels from image to image
};

// Writes shards and manifest into `dir`. Every image has all classes, a void border between them,
// and noise; a class is a colour, so that a few steps lower the loss.
void write_tiny_dataset(const std::filesystem::path& dir, const TinyDataset& options);

// A configuration of training on them; a test adds its own lines ("train.iterations = 4").
inline std::string tiny_config(const std::string& backbone) {
    return "model.backbone = \"" + backbone + "\"\ndata.train_split = \"train\"\ndata.crop = 33\n";
}

}  // namespace deeplab::testing
