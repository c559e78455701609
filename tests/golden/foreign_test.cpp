// Checkpoints of two other programs' DeepLabV3+ (make_foreign.py): imported, they compute what
// PyTorch makes of them, and with any other setting something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/evaluate/evaluator.h"
#include "deeplab/weights/weights.h"
#include "golden/fixture.h"
#include "harness/compare.h"
#include "harness/device.h"
#include "harness/messages.h"
#include "reference/ops.h"

namespace deeplab::testing {
namespace {

using model::Dilation;
using ::testing::HasSubstr;

constexpr std::pair<std::int64_t, std::int64_t> sizes[] = {{97, 129}, {64, 80}, {51, 70}};

// make_foreign.py's picture().
io::Image picture(std::int64_t height, std::int64_t width) {
    const reference::Tensor noise = reference::random_tensor({1, height, width, 3},
                                                             static_cast<std::uint64_t>(height));
    io::Image image{.width = width, .height = height, .pixels = {}};
    for (const double v : noise.data)
        image.pixels.push_back(static_cast<std::uint8_t>(std::floor((v + 1) * 128)));
    return image;
}

struct Origin {
    const char* file;
    Dilation dilation;
    bool align_corners;
    int decoder_convs;
};

class ForeignNetworks : public ::testing::TestWithParam<Origin> {
protected:
    static std::string path(const std::string& name) {
        return (source_dir() / "tests/golden/foreign" / name).string();
    }
    const Fixture fixture_{"foreign/logits.h5"};
    const std::string name_ = GetParam().file;
    const weights::WeightsFile file_{path(name_ + ".pth")};
    const weights::WeightsInfo info_ = weights::guess_info(file_);

    weights::ImportedWeights imported(const model::ModelConfig& config) const {
        return weights::import_weights(file_, model::inference_plan(config, 1, 33, 33), {});
    }
    std::vector<float> expected(const std::string& what) const {
        return fixture_.floats(cat(name_, "/", what));
    }

    // At stride 4.
    std::vector<float> logits(const model::ModelConfig& config, const weights::Snapshot& snapshot,
                              std::int64_t height, std::int64_t width) const {
        const graph::Plan plan = model::inference_plan(config, 1, height, width);
        const std::unique_ptr<exec::Backend> backend = device(2);
        backend->allocate(plan);
        weights::apply_snapshot(*backend, plan, snapshot, false);
        const auto gradients = comm::make_self(), batch_norm = comm::make_self();
        const auto executable = backend->compile(plan, {gradients.get(), batch_norm.get()},
                                                 {.poison = true});
        std::vector<float> planes(static_cast<std::size_t>(3 * height * width));
        data::normalise(picture(height, width), info_.normalisation(), planes.data());
        executable->run({.images = planes, .labels = {}, .samples = {}});
        return executable->download(plan.logits);
    }
    // Relative, on the smallest size.
    double error(const model::ModelConfig& config, const weights::Snapshot& snapshot) const {
        const auto [height, width] = sizes[2];
        const std::vector<float> actual = logits(config, snapshot, height, width),
                                 theirs = expected(cat(height, "x", width));
        double difference = 0, norm = 0;
        EXPECT_EQ(actual.size(), theirs.size());
        for (std::size_t i = 0; i < std::min(actual.size(), theirs.size()); ++i) {
            const double a = static_cast<double>(actual[i]), b = static_cast<double>(theirs[i]);
            difference += (a - b) * (a - b);
            norm += b * b;
        }
        return std::sqrt(difference / norm);
    }
};

TEST_P(ForeignNetworks, AreKnownByNamesAndShapes) {
    EXPECT_EQ(info_.model.backbone, "resnet50");
    EXPECT_EQ(info_.model.width_divisor, 32);
    EXPECT_EQ(info_.model.num_classes, 3);
    EXPECT_EQ(info_.model.dilation, GetParam().dilation);
    EXPECT_EQ(info_.model.align_corners, GetParam().align_corners);
    EXPECT_EQ(info_.model.decoder_convs, GetParam().decoder_convs);
    ASSERT_TRUE(weights::normalisation_of(file_));
    const auto trained = weights::trained_as(file_);
    ASSERT_TRUE(trained);
    EXPECT_EQ(trained->dilation, GetParam().dilation);
    const weights::ImportedWeights weights = imported(info_.model);
    EXPECT_THAT(weights::summary(weights),
                HasSubstr(cat("its network computes with model.dilation = \"",
                              model::name(GetParam().dilation), "\"")));
    for (const auto& row : weights.table) {
        EXPECT_NE(row.fate, weights::ImportedWeights::Row::Fate::initialised) << row.ours;
        if (row.fate == weights::ImportedWeights::Row::Fate::ignored &&
            !row.theirs.ends_with("num_batches_tracked")) {
            EXPECT_EQ(row.note, "no tensor") << row.theirs;
        }
    }
}

TEST_P(ForeignNetworks, ComputeWhatPyTorchMakesOfThem) {
    const weights::Snapshot snapshot = imported(info_.model).snapshot;
    for (const auto& [height, width] : sizes) {
        EXPECT_TRUE(near(logits(info_.model, snapshot, height, width),
                         expected(cat(height, "x", width)), 1e-5))
            << height << "x" << width;
    }
}

// As deeplab-predict does; with aligned corners the image is padded first, and PyTorch's is not.
TEST_P(ForeignNetworks, PredictTheImageAsItIs) {
    if (GetParam().align_corners) GTEST_SKIP() << "skipped: the image is padded";
    const auto [height, width] = sizes[2];
    const std::unique_ptr<exec::Backend> backend = device(2);
    const graph::Plan plan = model::inference_plan(info_.model, 1, height, width);
    backend->allocate(plan);
    weights::apply_snapshot(*backend, plan, imported(info_.model).snapshot, false);
    evaluate::Predictor predictor(*backend, info_.model, {.normalisation = info_.normalisation()});
    EXPECT_TRUE(near(predictor.logits(picture(height, width)), expected("whole"), 1e-5));
}

TEST_P(ForeignNetworks, AreAnotherFunctionWithAnyOtherSetting) {
    const model::ModelConfig right = info_.model;
    const weights::Snapshot snapshot = imported(right).snapshot;
    EXPECT_LE(error(right, snapshot), 1e-5);
    for (const Dilation rule : {Dilation::uniform, Dilation::torchvision, Dilation::multigrid}) {
        if (rule == right.dilation) continue;
        model::ModelConfig wrong = right;
        wrong.dilation = rule;
        EXPECT_GT(error(wrong, snapshot), 0.01) << model::name(rule);
    }
    model::ModelConfig corners = right;
    corners.align_corners = !right.align_corners;
    EXPECT_GT(error(corners, snapshot), 0.01);
    model::ModelConfig stride = right;
    stride.output_stride = 8;
    EXPECT_GT(error(stride, snapshot), 0.01);
    model::ModelConfig convs = right;
    convs.decoder_convs = 3 - right.decoder_convs;
    EXPECT_THAT(message_of<DataError>([&] { imported(convs); }),
                HasSubstr("the weights are of another network"));
    // The channels of the decoder's concatenation in the other order.
    weights::Snapshot turned = snapshot;
    std::vector<float>& w = turned.parameters.at("decoder.refine1.conv.weight");
    const std::size_t row = 9 * 9, low = 9;  // 8 channels of ASPP and one of layer1
    ASSERT_EQ(w.size(), 8 * row);
    for (std::size_t k = 0; k < 8; ++k) {
        const auto first = w.begin() + static_cast<std::ptrdiff_t>(k * row);
        std::rotate(first, first + static_cast<std::ptrdiff_t>(row - low),
                    first + static_cast<std::ptrdiff_t>(row));
    }
    EXPECT_GT(error(right, turned), 0.01);
}

INSTANTIATE_TEST_SUITE_P(Origins, ForeignNetworks,
                         ::testing::Values(Origin{"vainf", Dilation::torchvision, false, 1},
                                           Origin{"jfzhang", Dilation::multigrid, true, 2}),
                         [](const auto& test) { return test.param.file; });

}  // namespace
}  // namespace deeplab::testing
