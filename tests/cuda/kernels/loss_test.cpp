#include "loss.h"

#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "device.h"
#include "ops/cases.h"

namespace deeplab::testing {
namespace {

struct Head {
    DeviceArray<double> loss{1};
    DeviceTensor dlogits;

    Head(const reference::Tensor& logits, DType type, const std::vector<std::uint8_t>& labels,
         std::int64_t height, std::int64_t width, const graph::SegmentationLoss& op,
         bool gradient = true, Margin margin = {})
        : dlogits(logits.shape, type, margin) {
        const DeviceTensor device_logits(logits, type, margin);
        const DeviceArray<std::uint8_t> device_labels(labels);
        const Shape image{logits.shape.n, 1, height, width};
        const DeviceScratch scratch(cuda::segmentation_loss_scratch_bytes(op, logits.shape, image));
        cuda::segmentation_loss(no_stream, op, device_logits.view(),
                                {image, 1, DType::u8, device_labels.data()}, loss.view(DType::f64),
                                gradient ? dlogits.view() : View{}, scratch.get());
    }
};

TEST(LossKernel, WithoutGradientsAndWithMargins) {
    const Shape shape{2, 21, 6, 5};
    const reference::Tensor logits = reference::random_tensor(shape, 1);
    const std::vector<std::uint8_t> labels = random_labels(shape, 21, 17, 0.8);
    const graph::SegmentationLoss op{};
    const Head whole(logits, DType::f32, labels, 21, 17, op);
    const Head alone(logits, DType::f32, labels, 21, 17, op, false);
    EXPECT_EQ(whole.loss.values(), alone.loss.values());
    const Head wide(logits, DType::f32, labels, 21, 17, op, true, {3, 8});
    EXPECT_EQ(whole.dlogits.values().data, wide.dlogits.values().data);
    EXPECT_TRUE(wide.dlogits.margin_untouched());
}

// What no executable lets pass reads no other memory.
TEST(LossKernel, ALabelBeyondTheClassesIsHarmless) {
    const Shape shape{1, 21, 5, 5};
    std::vector<std::uint8_t> labels = random_labels(shape, 17, 17, 0.9);
    labels.front() = 200;
    const Head wrong(reference::random_tensor(shape, 1), DType::f32, labels, 17, 17, {});
    EXPECT_TRUE(std::isfinite(wrong.loss.values()[0]));
}

TEST(LossKernel, RefusesWhatItCannotRead) {
    const Shape shape{1, 257, 2, 2};  // more classes than labels have values
    EXPECT_THROW(Head(reference::random_tensor(shape, 1), DType::f32,
                      std::vector<std::uint8_t>(25, 0), 5, 5, {}),
                 LogicError);
    const Shape few{1, 21, 2, 2}, image{1, 1, 5, 5};
    const DeviceTensor logits(reference::random_tensor(few, 1), DType::f32);
    const DeviceArray<double> loss(1);
    const DeviceScratch scratch(cuda::segmentation_loss_scratch_bytes({}, few, image));
    const DeviceTensor labels(image, DType::u8), wide(image, DType::u8, {0, 1}),
        floats(image, DType::f32);
    for (const DeviceTensor* wrong : {&wide, &floats}) {
        EXPECT_THROW(cuda::segmentation_loss(no_stream, {}, logits.view(), wrong->view(),
                                             loss.view(DType::f64), View{}, scratch.get()),
                     LogicError);
    }
}

}  // namespace
}  // namespace deeplab::testing
