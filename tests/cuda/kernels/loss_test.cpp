#include "loss.h"

#include <gtest/gtest.h>

#include "device.h"

namespace deeplab::testing {
namespace {

struct Case {
    Shape logits;
    std::int64_t height, width;
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << to_string(c.logits) << " to " << c.height << 'x' << c.width;
}

std::vector<std::uint8_t> random_labels(const Case& c, double valid) {
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(c.logits.n * c.height * c.width),
                                     255);
    for (std::size_t i = 0; i < labels.size(); ++i) {
        const math::Philox4 r = math::philox(5, {{static_cast<std::uint32_t>(i), 0, 0, 0}});
        if (static_cast<double>(math::uniform(r.v[0])) < valid)
            labels[i] = static_cast<std::uint8_t>(r.v[1] % static_cast<std::uint32_t>(c.logits.c));
    }
    return labels;
}

struct Head {
    DeviceArray<double> loss{1};
    DeviceTensor dlogits;

    Head(const reference::Tensor& logits, DType type, const std::vector<std::uint8_t>& labels,
         std::int64_t height, std::int64_t width, const graph::SegmentationLoss& op,
         bool gradient = true, DeviceTensor::Margin margin = {})
        : dlogits(logits.shape, type, margin) {
        const DeviceTensor device_logits(logits, type, margin);
        const DeviceArray<std::uint8_t> device_labels(labels);
        const Shape image{logits.shape.n, 1, height, width};
        const DeviceScratch scratch(cuda::segmentation_loss_scratch_bytes(logits.shape, image));
        cuda::segmentation_loss(no_stream, op, device_logits.view(),
                                {image, 1, DType::u8, device_labels.data()}, loss.view(DType::f64),
                                gradient ? dlogits.view() : View{}, scratch.get());
    }
};

class LossKernel : public ::testing::TestWithParam<std::tuple<Case, DType>> {};

TEST_P(LossKernel, LossAndGradient) {
    const auto& [c, type] = GetParam();
    const graph::SegmentationLoss op{.gradient_scale = 0.25f};
    reference::Tensor logits = random_in(type, c.logits, 1);
    for (double& v : logits.data) v *= 8;
    for (const double valid : {1.0, 0.7, 0.01}) {
        const std::vector<std::uint8_t> labels = random_labels(c, valid);
        const auto expected = reference::segmentation_loss(logits, labels, c.height, c.width, op);
        const Head head(logits, type, labels, c.height, c.width, op);
        EXPECT_NEAR(head.loss.values()[0], expected.loss, 1e-5 * std::abs(expected.loss) + 1e-12);
        EXPECT_TRUE(
            near(head.dlogits.values().data, rounded(type, expected.dlogits).data, limit(type)));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, LossKernel,
    ::testing::Combine(::testing::Values(Case{{2, 21, 9, 7}, 33, 25}, Case{{1, 21, 5, 33}, 17, 129},
                                         Case{{1, 21, 3, 70}, 9, 300}, Case{{3, 4, 6, 5}, 21, 17},
                                         Case{{1, 40, 4, 9}, 13, 60}, Case{{1, 255, 2, 3}, 5, 9},
                                         Case{{2, 21, 1, 1}, 5, 4}, Case{{1, 12, 7, 7}, 7, 7},
                                         Case{{1, 21, 9, 9}, 4, 5}, Case{{1, 21, 4, 3}, 70, 90},
                                         Case{{1, 3, 3, 1}, 9, 1}),
                       ::testing::Values(DType::f32, DType::bf16)));

TEST(LossKernel, WithoutGradientsAndWithMargins) {
    const Case c{{2, 21, 6, 5}, 21, 17};
    const reference::Tensor logits = reference::random_tensor(c.logits, 1);
    const std::vector<std::uint8_t> labels = random_labels(c, 0.8);
    const graph::SegmentationLoss op{};
    const Head whole(logits, DType::f32, labels, c.height, c.width, op);
    const Head alone(logits, DType::f32, labels, c.height, c.width, op, false);
    EXPECT_EQ(whole.loss.values(), alone.loss.values());
    const Head wide(logits, DType::f32, labels, c.height, c.width, op, true, {3, 8});
    EXPECT_EQ(whole.dlogits.values().data, wide.dlogits.values().data);
    EXPECT_TRUE(wide.dlogits.margin_untouched());
}

TEST(LossKernel, NothingValidIsZero) {
    const Case c{{1, 21, 5, 5}, 17, 17};
    const Head head(reference::random_tensor(c.logits, 1), DType::f32, random_labels(c, 0), 17, 17,
                    {});
    EXPECT_EQ(head.loss.values()[0], 0);
    EXPECT_EQ(head.dlogits.values().data, Values(21 * 25, 0));
}

// Logits far apart neither overflow nor vanish; another ignore label; a label outside the classes
// reads nothing else.
TEST(LossKernel, ExtremeLogits) {
    const Case c{{1, 21, 5, 5}, 17, 17};
    reference::Tensor logits = reference::random_tensor(c.logits, 1);
    for (double& v : logits.data) v *= 300;
    std::vector<std::uint8_t> labels = random_labels(c, 0.9);
    const graph::SegmentationLoss op{.ignore = 3};
    std::replace(labels.begin(), labels.end(), std::uint8_t{255}, std::uint8_t{3});
    const auto expected = reference::segmentation_loss(logits, labels, 17, 17, op);
    const Head head(logits, DType::f32, labels, 17, 17, op);
    EXPECT_NEAR(head.loss.values()[0], expected.loss, 1e-5 * expected.loss);
    EXPECT_TRUE(near(head.dlogits.values().data, expected.dlogits.data, 1e-5));
    labels.front() = 200;
    const Head wrong(logits, DType::f32, labels, 17, 17, op);
    EXPECT_TRUE(std::isfinite(wrong.loss.values()[0]));
}

}  // namespace
}  // namespace deeplab::testing
