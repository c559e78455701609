#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <stdexcept>

#include "deeplab/base/error.h"
#include "deeplab/base/limits.h"
#include "deeplab/base/text.h"
#include "deeplab/evaluate/evaluator.h"
#include "logit_rows.h"

namespace deeplab::evaluate {
namespace {

// Executables hold their own descriptions and scratch; VOC's images need some thirty sizes, most of
// them a few.
constexpr std::size_t plans_kept = 24;

io::Image mirrored(const io::Image& image) {
    io::Image out = image;
    for (std::int64_t y = 0; y < image.height; ++y) {
        for (std::int64_t x = 0; x < image.width; ++x) {
            const auto* from = image.pixels.data() + (y * image.width + image.width - 1 - x) * 3;
            std::copy_n(from, 3, out.pixels.data() + (y * image.width + x) * 3);
        }
    }
    return out;
}

std::vector<float> volume(std::int64_t classes, std::int64_t height, std::int64_t width) {
    try {
        return std::vector<float>(static_cast<std::size_t>(classes * height * width), 0.0f);
    } catch (const std::bad_alloc&) {
        const auto bytes = static_cast<std::uint64_t>(classes * height * width) * sizeof(float);
        throw DeviceError(cat("the scores of an image of ", width, "x", height, " need ",
                              human_bytes(bytes), memory_limit(),
                              " — this machine does not have them — shrink the image"));
    }
}

// Adds weight * softmax, resized to (height, width), mirrored back if it is of a mirrored image.
void add_softmax(const LogitGrid& grid, bool flipped, float weight, std::int64_t height,
                 std::int64_t width, std::vector<float>& scores) {
    LogitRows rows(grid);
    const auto vertical = bilinear_taps(grid.image_height, height, height, false);
    const auto horizontal = bilinear_taps(grid.image_width, width, width, false);
    const auto scaled_width = static_cast<std::size_t>(grid.image_width);
    std::vector<float> mixed(scaled_width), row(static_cast<std::size_t>(width));
    for (std::int64_t y = 0; y < height; ++y) {
        const math::Tap& tap = vertical[static_cast<std::size_t>(y)];
        const std::vector<float>& upper = rows.softmax(tap.i0);
        const std::vector<float>& lower = tap.t > 0.0f ? rows.softmax(tap.i1) : upper;
        for (std::int64_t c = 0; c < grid.classes; ++c) {
            const auto at = static_cast<std::size_t>(c) * scaled_width;
            blend({upper.data() + at, scaled_width}, {lower.data() + at, scaled_width}, tap.t,
                  mixed);
            resample(mixed, horizontal, row.data());
            if (flipped) std::reverse(row.begin(), row.end());
            float* out = scores.data() + (c * height + y) * width;
            for (std::size_t x = 0; x < row.size(); ++x) out[x] += weight * row[x];
        }
    }
}

}  // namespace

io::Mask arg_max(std::span<const float> scores, int classes, std::int64_t height,
                 std::int64_t width) {
    expects(static_cast<std::int64_t>(scores.size()) == classes * height * width,
            "scores of (classes, height, width)");
    io::Mask mask{.width = width, .height = height, .labels = {}};
    mask.labels.resize(static_cast<std::size_t>(height * width));
    std::vector<float> best(static_cast<std::size_t>(width));
    for (std::int64_t y = 0; y < height; ++y) {
        arg_max_row(scores.data() + y * width, height * width, classes, best,
                    mask.labels.data() + y * width);
    }
    return mask;
}

struct Predictor::Impl {
    struct Compiled {
        std::int64_t height = 0, width = 0;
        graph::Plan plan;
        std::unique_ptr<exec::Executable> executable;
    };

    exec::Backend& backend;
    model::ModelConfig model;
    InferenceOptions options;
    std::unique_ptr<comm::Communicator> gradients = comm::make_self(),
                                        batch_norm = comm::make_self();
    std::vector<std::unique_ptr<Compiled>> cache = {};  // the latest used last

    std::unique_ptr<Compiled> compile(std::int64_t height, std::int64_t width);
    bool fits(std::int64_t height, std::int64_t width);
    [[noreturn]] void too_large(std::int64_t height, std::int64_t width, const DeviceError& error);
    Compiled& compiled(std::int64_t height, std::int64_t width);
    LogitGrid run(const io::Image& image, double scale = 1.0, bool flipped = false);
    bool plain() const {
        return options.scales.size() == 1 && options.scales[0] == 1.0 && !options.flip;
    }
};

std::unique_ptr<Predictor::Impl::Compiled> Predictor::Impl::compile(std::int64_t height,
                                                                    std::int64_t width) {
    auto made = std::make_unique<Compiled>();
    made->height = height;
    made->width = width;
    made->plan = model::inference_plan(model, 1, height, width);
    try {
        made->executable = backend.compile(made->plan, {gradients.get(), batch_norm.get()}, {});
    } catch (const std::bad_alloc&) {
        throw DeviceError(
            cat("no memory for the network at ", width, "x", height, memory_limit(),
                " — it cannot run — use a smaller image, or a machine with more memory"));
    }
    return made;
}

bool Predictor::Impl::fits(std::int64_t height, std::int64_t width) {
    try {
        const std::unique_ptr<Compiled> network = compile(height, width);
        // What a pass holds beside it: the pixels, the same padded, and scores that are summed up.
        const auto pixels = volume(3, height, width), padded = volume(3, height, width),
                   sums = volume(plain() ? 0 : model.num_classes, height, width);
        return true;
    } catch (const DeviceError&) {
        return false;
    }
}

void Predictor::Impl::too_large(std::int64_t height, std::int64_t width, const DeviceError& error) {
    // Bisection over sizes of the same shape, in steps of the network's grid.
    std::int64_t good = 0, bad = (std::max(height, width) - 1) / model.output_stride;
    const std::int64_t steps = bad;
    const auto side = [&](std::int64_t size, std::int64_t step) {
        return model::padded_size(model, (size - 1) * step / steps + 1);
    };
    while (bad - good > 1) {
        const std::int64_t middle = (good + bad) / 2;
        (fits(side(height, middle), side(width, middle)) ? good : bad) = middle;
    }
    if (good == 0) throw error;  // it is not the size
    throw DeviceError(
        cat("an image of ", width, "x", height, " (padded) does not fit into memory (",
            backend.description(), ")", memory_limit(),
            " — it cannot be labelled in one piece — the largest size of this shape that fits is ",
            side(width, good), "x", side(height, good), ": shrink the image to that",
            plain() ? "" : ", or use smaller --scales"));
}

Predictor::Impl::Compiled& Predictor::Impl::compiled(std::int64_t height, std::int64_t width) {
    const auto found = std::find_if(cache.begin(), cache.end(), [&](const auto& c) {
        return c->height == height && c->width == width;
    });
    if (found != cache.end()) {
        std::rotate(found, found + 1, cache.end());
        return *cache.back();
    }
    if (cache.size() == plans_kept) cache.erase(cache.begin());
    std::unique_ptr<Compiled> made;
    try {
        made = compile(height, width);
    } catch (const DeviceError&) {
        cache.clear();  // what they hold may be what is missing
    }
    try {
        if (!made) made = compile(height, width);
    } catch (const DeviceError& error) {
        too_large(height, width, error);
    }
    cache.push_back(std::move(made));
    return *cache.back();
}

// (3,H,W), normalised, in the upper left corner of the padded input; the rest is 0: the mean pixel.
LogitGrid Predictor::Impl::run(const io::Image& image, double scale, bool flipped) {
    expects(image.width > 0 && image.height > 0, "an image has pixels");
    LogitGrid grid;
    grid.image_height = image.height;
    grid.image_width = image.width;
    grid.padded_height = model::padded_size(model, image.height);
    grid.padded_width = model::padded_size(model, image.width);
    grid.align_corners = model.align_corners;
    Compiled& network = compiled(grid.padded_height, grid.padded_width);

    std::vector<float> planes = volume(3, image.height, image.width);
    data::normalise(image, options.normalisation, planes.data());
    std::vector<float> padded = volume(3, grid.padded_height, grid.padded_width);
    for (std::int64_t c = 0; c < 3; ++c) {
        for (std::int64_t y = 0; y < image.height; ++y) {
            std::copy_n(planes.data() + (c * image.height + y) * image.width, image.width,
                        padded.data() + (c * grid.padded_height + y) * grid.padded_width);
        }
    }
    network.executable->run({.images = padded, .labels = {}, .samples = {}});
    grid.logits = network.executable->download(network.plan.logits);
    const Shape& shape = network.plan.tensor(network.plan.logits).shape;
    grid.classes = shape.c;
    grid.height = shape.h;
    grid.width = shape.w;
    ensures(static_cast<std::int64_t>(grid.logits.size()) == shape.elements(),
            "the backend downloads whole tensors");
    if (options.on_pass) {
        options.on_pass({.scale = scale,
                         .flipped = flipped,
                         .image = image,
                         .input = padded,
                         .padded_height = grid.padded_height,
                         .padded_width = grid.padded_width,
                         .logits = grid.logits,
                         .classes = grid.classes,
                         .height = grid.height,
                         .width = grid.width});
    }
    return grid;
}

Predictor::Predictor(exec::Backend& backend, const model::ModelConfig& model,
                     const InferenceOptions& options)
    : impl_(new Impl{.backend = backend, .model = model, .options = options}) {
    bool usable = !options.scales.empty();
    for (const double scale : options.scales) usable = usable && scale >= 0.05 && scale <= 16;
    if (!usable) {
        throw UsageError(
            "--scales must be numbers from 0.05 to 16 — images are resized by them — "
            "for example --scales 0.5,0.75,1,1.25,1.5,1.75");
    }
}

Predictor::~Predictor() = default;

int Predictor::classes() const { return impl_->model.num_classes; }

std::vector<float> Predictor::scores(const io::Image& image) {
    const InferenceOptions& options = impl_->options;
    std::vector<float> scores = volume(classes(), image.height, image.width);
    const float weight = 1.0f / static_cast<float>(options.scales.size() * (options.flip ? 2 : 1));
    for (const double scale : options.scales) {
        const auto scaled_side = [scale](std::int64_t side) {
            return std::max<std::int64_t>(1, std::llround(static_cast<double>(side) * scale));
        };
        const std::int64_t width = scaled_side(image.width), height = scaled_side(image.height);
        const bool same = width == image.width && height == image.height;
        const io::Image scaled = same ? image : data::resize_bilinear(image, width, height);
        add_softmax(impl_->run(scaled, scale), false, weight, image.height, image.width, scores);
        if (options.flip)
            add_softmax(impl_->run(mirrored(scaled), scale, true), true, weight, image.height,
                        image.width, scores);
    }
    return scores;
}

std::vector<float> Predictor::logits(const io::Image& image) {
    const LogitGrid grid = impl_->run(image);
    LogitRows rows(grid);
    std::vector<float> logits = volume(grid.classes, image.height, image.width);
    std::vector<float> row(static_cast<std::size_t>(grid.classes * image.width));
    for (std::int64_t y = 0; y < image.height; ++y) {
        rows.logits(y, row);
        for (std::int64_t c = 0; c < grid.classes; ++c) {
            std::copy_n(row.data() + c * image.width, image.width,
                        logits.data() + (c * image.height + y) * image.width);
        }
    }
    return logits;
}

io::Mask Predictor::predict(const io::Image& image) {
    if (!impl_->plain()) return arg_max(scores(image), classes(), image.height, image.width);
    // The largest logit has the largest softmax.
    const LogitGrid grid = impl_->run(image);
    LogitRows rows(grid);
    io::Mask mask{.width = image.width, .height = image.height, .labels = {}};
    mask.labels.resize(static_cast<std::size_t>(image.width * image.height));
    std::vector<float> row(static_cast<std::size_t>(grid.classes * image.width)),
        best(static_cast<std::size_t>(image.width));
    for (std::int64_t y = 0; y < image.height; ++y) {
        rows.logits(y, row);
        arg_max_row(row.data(), image.width, grid.classes, best,
                    mask.labels.data() + y * image.width);
    }
    return mask;
}

}  // namespace deeplab::evaluate
