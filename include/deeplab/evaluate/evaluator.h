#pragma once
// Evaluation and prediction with a trained network, on any backend.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/data/loader.h"
#include "deeplab/data/shard.h"
#include "deeplab/evaluate/confusion.h"
#include "deeplab/exec/backend.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::evaluate {

enum class Protocol {
    full,  // VOC's: the whole image at its own size, padded with the mean pixel, every image once
    centre_crop,  // the reference's: short side to `crop`, centre crop of image and mask
};

const char* name(Protocol protocol);  // "full", "centre-crop"

// One run of the network for an image.
struct Pass {
    double scale;
    bool flipped;
    const io::Image& image;        // as resized and mirrored
    std::span<const float> input;  // (3, padded_height, padded_width): normalised, image in the
                                   // upper left corner, mean pixel elsewhere
    std::int64_t padded_height, padded_width;
    std::span<const float> logits;  // (classes, height, width), as the network left them
    std::int64_t classes, height, width;
};

struct InferenceOptions {
    // The 8-bit image is resized as PIL does, the scores of each scale back to the image's size
    // with half-pixel centres (that resize's own), and averaged.
    std::vector<double> scales = {1.0};
    bool flip = false;  // average of softmax over scales, and over the mirrored image
    data::Normalisation normalisation;
    std::function<void(const Pass&)> on_pass = {};  // after each run of the network
};

// Softmax scores of images of any size: a plan per padded size, the latest of them cached.
// DeviceError for an image too large for the device's memory names the largest size that fits.
class Predictor {
public:
    Predictor(exec::Backend& backend, const model::ModelConfig& model,
              const InferenceOptions& options);
    ~Predictor();
    int classes() const;
    // (classes, H, W) averaged softmax at the image's own size.
    std::vector<float> scores(const io::Image& image);
    // (classes, H, W) logits of the plain image (scale 1, no flip), upsampled to its size.
    std::vector<float> logits(const io::Image& image);
    io::Mask predict(const io::Image& image);  // arg max; the smaller class wins a tie

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// Class with the largest value at each pixel of (classes, height, width); the smaller class wins a
// tie.
io::Mask arg_max(std::span<const float> scores, int classes, std::int64_t height,
                 std::int64_t width);

struct EvaluationOptions {
    Protocol protocol = Protocol::full;
    // centre_crop: the side of its square. The published numbers have 513, whatever crops a network
    // was trained on, so that data.crop does not reach here.
    std::int64_t crop = 513;
    // Called for every image this rank handles, in its order (progress, saving masks).
    std::function<void(std::int64_t index, const data::Record& record, const io::Image& image,
                       const io::Mask& truth, const io::Mask& predicted)>
        on_image;
};

// Collective: rank r takes records r, r+size, …; the result is summed over ranks and the same on
// all, and so is an Error of one of them.
Confusion evaluate_split(Predictor& predictor, data::ShardSet& shards,
                         const EvaluationOptions& options, comm::Communicator& communicator);
// The same, unless `stop` says true on a rank: then all ranks leave, each after the image that it
// is at, with nothing. It is asked on every rank before each image and while a rank waits for the
// others; not collective.
std::optional<Confusion> evaluate_until(Predictor& predictor, data::ShardSet& shards,
                                        const EvaluationOptions& options,
                                        comm::Communicator& communicator,
                                        const std::function<bool()>& stop);

}  // namespace deeplab::evaluate
