#include "deeplab/evaluate/confusion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "deeplab/base/error.h"

namespace deeplab::evaluate {
namespace {

using Labels = std::vector<std::uint8_t>;

// By hand. Counts [truth][predicted] of classes 0, 1, 2, 3:
//   0: 3 1 0 0
//   1: 2 2 0 0
//   2: 0 0 0 0   neither in truth nor predicted
//   3: 0 0 0 0   not in truth, predicted once below
TEST(Confusion, MetricsOfAnExampleDoneByHand) {
    Confusion confusion(4);
    confusion.add(Labels{0, 0, 0, 0, 255}, Labels{0, 0, 0, 1, 2});  // the 255 pixel counts nowhere
    confusion.add(Labels{1, 1, 1, 1, 7}, Labels{0, 0, 1, 1, 3});    // 7 is no class: neither
    EXPECT_EQ(confusion.counts(),
              (std::vector<std::int64_t>{3, 1, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
    Metrics m = confusion.metrics();
    EXPECT_DOUBLE_EQ(m.pixel_accuracy, 5.0 / 8);
    EXPECT_DOUBLE_EQ(m.mean_pixel_accuracy, (3.0 / 4 + 2.0 / 4) / 2);
    EXPECT_DOUBLE_EQ(m.class_iou[0], 3.0 / 6);
    EXPECT_DOUBLE_EQ(m.class_iou[1], 2.0 / 5);
    EXPECT_TRUE(std::isnan(m.class_iou[2]));
    EXPECT_TRUE(std::isnan(m.class_iou[3]));
    EXPECT_DOUBLE_EQ(m.miou, (3.0 / 6 + 2.0 / 5) / 2);
    EXPECT_DOUBLE_EQ(m.fwiou, (4 * 3.0 / 6 + 4 * 2.0 / 5) / 8);

    // A class that is only predicted counts in mIoU with 0, and in no accuracy.
    confusion.add(Labels{0}, Labels{3});
    m = confusion.metrics();
    EXPECT_DOUBLE_EQ(m.pixel_accuracy, 5.0 / 9);
    EXPECT_DOUBLE_EQ(m.mean_pixel_accuracy, (3.0 / 5 + 2.0 / 4) / 2);
    EXPECT_DOUBLE_EQ(m.class_iou[3], 0.0);
    EXPECT_TRUE(std::isnan(m.class_iou[2]));
    EXPECT_DOUBLE_EQ(m.miou, (3.0 / 7 + 2.0 / 5 + 0) / 3);
    EXPECT_DOUBLE_EQ(m.fwiou, (5 * 3.0 / 7 + 4 * 2.0 / 5) / 9);
}

TEST(Confusion, WithoutALabelledPixelNothingIsDefined) {
    Confusion confusion(2);
    confusion.add(Labels{255, 255}, Labels{0, 1});
    const Metrics m = confusion.metrics();
    EXPECT_TRUE(std::isnan(m.pixel_accuracy) && std::isnan(m.mean_pixel_accuracy) &&
                std::isnan(m.miou) && std::isnan(m.fwiou));
}

TEST(Confusion, RefusesWhatCannotBeCounted) {
    Confusion confusion(2);
    EXPECT_THROW(confusion.add(Labels{0, 1}, Labels{0}), LogicError);
    EXPECT_THROW(confusion.add(Labels{0}, Labels{2}), LogicError);
    EXPECT_THROW(Confusion(0), LogicError);
}

}  // namespace
}  // namespace deeplab::evaluate
