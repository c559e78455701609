#pragma once
// The fixtures of this folder (make_golden.py) and the inputs they belong to (formulas.py).

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deeplab/base/types.h"
#include "deeplab/io/hdf5.h"
#include "harness/source_dir.h"

namespace deeplab::testing {

class Fixture {
public:
    explicit Fixture(const std::string& file) : file_(source_dir() / "tests" / "golden" / file) {}

    const io::Hdf5Reader& file() const { return file_; }
    std::vector<std::string> list(const std::string& group) const { return file_.list(group); }
    bool has(const std::string& name) const { return file_.has(name); }
    std::vector<float> floats(const std::string& name) const {
        return file_.read_all<float>(name, DType::f32);
    }
    std::vector<std::int64_t> ints(const std::string& name) const {
        return file_.read_all<std::int64_t>(name, DType::i64);
    }
    int attribute(const std::string& name) const {
        return static_cast<int>(file_.attribute_int(name));
    }

private:
    io::Hdf5Reader file_;
};

// A class where a uniform number lies below `valid`, else 255.
std::vector<std::uint8_t> random_labels(std::size_t count, std::uint32_t classes, double valid,
                                        std::uint64_t seed = 5);

// Weights and running statistics with which no ReLU is near its kink, by PyTorch's name. shape: a
// plan's.
std::vector<float> kink_free_value(const std::string& name, const Shape& shape);

// Noise with an offset per sample and colour.
std::vector<float> images(std::int64_t batch, std::int64_t height, std::int64_t width,
                          std::uint64_t seed);

}  // namespace deeplab::testing
