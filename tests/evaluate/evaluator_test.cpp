#include "deeplab/evaluate/evaluator.h"

#include <gtest/gtest.h>

#include <vector>

#include "deeplab/base/error.h"
#include "harness/lone_communicator.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"
#include "sampling_backend.h"

namespace deeplab::evaluate {
namespace {

const model::ModelConfig network{.backbone = "resnet18", .num_classes = 3};

// Its sums stay its own.
struct LonelyRank : testing::LoneCommunicator {
    using LoneCommunicator::LoneCommunicator;
    void all_reduce(void*, std::size_t, DType, comm::ReduceOp, const char*) override {
        ++reductions;
    }
    comm::Request start_all_reduce(void*, std::size_t, DType, comm::ReduceOp,
                                   const char*) override {
        return 0;
    }
    int reductions = 0;
};

class Evaluate : public ::testing::Test {
protected:
    Evaluate() {
        testing::write_tiny_dataset(dir_.path(), {.split = "val", .images = 7, .classes = 3});
        shards_ = std::make_unique<data::ShardSet>(dir_.path(), "val");
    }
    testing::TempDir dir_;
    testing::SamplingBackend backend_;
    Predictor predictor_{backend_, network, {}};
    std::unique_ptr<data::ShardSet> shards_;
};

TEST_F(Evaluate, CountsEveryPixelOfEveryImageOnce) {
    const auto self = comm::make_self();
    Confusion expected(3);
    std::vector<std::int64_t> order;
    EvaluationOptions options;
    options.on_image = [&](std::int64_t index, const data::Record& record, const io::Image& image,
                           const io::Mask& truth, const io::Mask& predicted) {
        order.push_back(index);
        EXPECT_EQ(image.width, record.width);
        EXPECT_EQ(truth.height, record.height);
        EXPECT_EQ(predicted.labels, predictor_.predict(image).labels);
        expected.add(truth.labels, predicted.labels);
    };
    const Confusion whole = evaluate_split(predictor_, *shards_, options, *self);
    EXPECT_EQ(order, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(whole.counts(), expected.counts());
    for (std::size_t c = 0; c < 3; ++c) {  // rows of the matrix are the data set's own statistics
        const auto& n = whole.counts();
        EXPECT_EQ(n[3 * c] + n[3 * c + 1] + n[3 * c + 2], shards_->manifest().class_pixels[c]);
    }
}

TEST_F(Evaluate, RanksShareTheImages) {
    const auto self = comm::make_self();
    const Confusion whole = evaluate_split(predictor_, *shards_, {}, *self);
    for (const int size : {2, 3, 8}) {  // 8 ranks: the last has no image
        std::vector<std::int64_t> sum(9, 0);
        std::vector<int> seen(7, 0);
        for (int rank = 0; rank < size; ++rank) {
            LonelyRank communicator(rank, size);
            EvaluationOptions options;
            options.on_image = [&](std::int64_t index, const auto&...) {
                ++seen[static_cast<std::size_t>(index)];
            };
            const Confusion part = evaluate_split(predictor_, *shards_, options, communicator);
            EXPECT_EQ(communicator.reductions, 2) << "who left, and the matrix: not one an image";
            for (std::size_t i = 0; i < 9; ++i) sum[i] += part.counts()[i];
        }
        EXPECT_EQ(sum, whole.counts()) << size << " ranks";
        EXPECT_EQ(seen, std::vector<int>(7, 1)) << size << " ranks";
    }
}

TEST_F(Evaluate, CentreCropTakesTheMiddleOfTheResizedImage) {
    const auto self = comm::make_self();
    EvaluationOptions options{.protocol = Protocol::centre_crop, .crop = 33, .on_image = {}};
    int images = 0;
    options.on_image = [&](std::int64_t, const data::Record& record, const io::Image& image,
                           const io::Mask& truth, const io::Mask& predicted) {
        ++images;
        const data::LabelledImage original = data::decode(record, data::Encoding::source, "test");
        // The short side becomes 33, the long one keeps the proportion, rounded down.
        ASSERT_GT(record.width, record.height);
        const std::int64_t width = record.width * 33 / record.height, left = (width - 33) / 2;
        ASSERT_EQ(image.width, 33);
        ASSERT_EQ(truth.height, 33);
        ASSERT_EQ(predicted.labels.size(), 33u * 33);
        const io::Image resized = data::resize_bilinear(original.image, width, 33);
        const io::Mask nearest = data::resize_nearest(original.mask, width, 33);
        // An odd rest is split to the even side.
        const std::int64_t x0 = (width - 33) % 2 == 0 ? left : left + left % 2;
        for (std::int64_t i = 0; i < 33 * 33; ++i) {
            const std::int64_t from = i / 33 * width + x0 + i % 33;
            ASSERT_EQ(truth.labels[static_cast<std::size_t>(i)],
                      nearest.labels[static_cast<std::size_t>(from)]);
            ASSERT_EQ(image.pixels[static_cast<std::size_t>(3 * i)],
                      resized.pixels[static_cast<std::size_t>(3 * from)]);
        }
    };
    evaluate_split(predictor_, *shards_, options, *self);
    EXPECT_EQ(images, 7);
}

TEST_F(Evaluate, RefusesANetworkOfOtherClasses) {
    const auto self = comm::make_self();
    model::ModelConfig other = network;
    other.num_classes = 4;
    Predictor predictor(backend_, other, {});
    EXPECT_THROW(evaluate_split(predictor, *shards_, {}, *self), LogicError);
}

TEST(EvaluateLabels, OneThatIsNoClassIsBadData) {
    testing::TempDir dir;
    data::Record record{.id = "a",
                        .width = 5,
                        .height = 4,
                        .image = std::vector<std::uint8_t>(60, 9),
                        .mask = std::vector<std::uint8_t>(20, 1)};
    record.mask[7] = 3;
    data::Manifest manifest;
    manifest.split = "val";
    manifest.encoding = data::Encoding::raw;
    manifest.records = 1;
    for (const char* name : {"a", "b", "c"}) manifest.classes.classes.push_back({name, {}});
    manifest.class_pixels = {0, 19, 0};
    manifest.class_images = {0, 1, 0};
    manifest.shards.push_back(data::write_shard(dir / data::shard_name("val", 0, 1), {record}));
    data::save_manifest(dir.path(), manifest);

    data::ShardSet shards(dir.path(), "val");
    testing::SamplingBackend backend;
    Predictor predictor(backend, network, {});
    const auto self = comm::make_self();
    EXPECT_THROW(evaluate_split(predictor, shards, {}, *self), DataError);
}

}  // namespace
}  // namespace deeplab::evaluate
