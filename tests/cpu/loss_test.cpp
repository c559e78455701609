#include "deeplab/base/error.h"
#include "ops/tiny_plan.h"

namespace deeplab::testing {
namespace {

struct Case {
    Shape logits;
    std::int64_t height, width;
};

std::vector<std::uint8_t> random_labels(const Case& c, double valid) {
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(c.logits.n * c.height * c.width),
                                     255);
    for (std::size_t i = 0; i < labels.size(); ++i) {
        const math::Philox4 r = math::philox(5, {{static_cast<std::uint32_t>(i), 0, 0, 0}});
        if (static_cast<double>(math::uniform(r.v[0])) < valid) {
            labels[i] = static_cast<std::uint8_t>(r.v[1] % static_cast<std::uint32_t>(c.logits.c));
        }
    }
    return labels;
}

struct Head {
    TinyPlan t;
    TensorId loss, dlogits;

    Head(const Case& c, const reference::Tensor& logits, const std::vector<std::uint8_t>& labels,
         const graph::SegmentationLoss& op) {
        const TensorId in = t.input(logits),
                       truth = t.label_input({c.logits.n, 1, c.height, c.width}, labels);
        loss = t.result();
        dlogits = t.arena(c.logits);
        t.node(op, {in, truth}, {loss, dlogits});
    }
};

class LossTest : public ::testing::TestWithParam<Case> {};

TEST_P(LossTest, LossAndGradient) {
    const Case c = GetParam();
    const graph::SegmentationLoss op{.gradient_scale = 0.25f};
    reference::Tensor logits = reference::random_tensor(c.logits, 1);
    for (double& v : logits.data) v *= 8;
    for (const double valid : {1.0, 0.7, 0.01}) {
        const std::vector<std::uint8_t> labels = random_labels(c, valid);
        const Head head(c, logits, labels, op);
        const reference::Loss expected = reference::segmentation_loss(logits, labels, c.height,
                                                                      c.width, op);
        const Ran ran(head.t), one_thread(head.t, {.poison = true}, 1);
        EXPECT_NEAR(ran.result.loss_sum, expected.loss, tolerance * std::abs(expected.loss))
            << valid;
        EXPECT_TRUE(near(ran[head.dlogits], expected.dlogits.data, tolerance)) << valid;
        EXPECT_EQ(ran.result.loss_sum, one_thread.result.loss_sum);
        EXPECT_EQ(ran[head.dlogits], one_thread[head.dlogits]);
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LossTest,
                         ::testing::Values(Case{{2, 21, 9, 9}, 33, 33}, Case{{1, 2, 5, 3}, 18, 11},
                                           Case{{3, 19, 1, 1}, 5, 7}, Case{{1, 21, 17, 17}, 65, 65},
                                           Case{{2, 21, 25, 17}, 97, 65},
                                           Case{{2, 255, 3, 4}, 9, 10}, Case{{1, 5, 7, 7}, 7, 7}));

TEST(Loss, NoValidPixel) {
    const Case c{{2, 21, 5, 5}, 17, 17};
    const Head head(c, reference::random_tensor(c.logits, 1),
                    std::vector<std::uint8_t>(2 * 17 * 17, 255), {});
    const Ran ran(head.t);
    EXPECT_EQ(ran.result.loss_sum, 0.0);
    EXPECT_EQ(ran[head.dlogits],
              std::vector<float>(static_cast<std::size_t>(c.logits.elements()), 0.0f));
}

TEST(Loss, ExtremeLogits) {
    const Case c{{1, 3, 2, 2}, 5, 5};
    reference::Tensor logits = reference::random_tensor(c.logits, 1);
    for (double& v : logits.data) v *= 1000;
    const std::vector<std::uint8_t> labels = random_labels(c, 1.0);
    const Head head(c, logits, labels, {});
    const Ran ran(head.t);
    const reference::Loss expected =
        [&] {  // the reference's plain exponentials would overflow: shift by hand
            reference::Tensor shifted = logits;
            for (double& v : shifted.data) v /= 2;  // e^500 fits a double
            return reference::segmentation_loss(shifted, labels, 5, 5, {});
        }();
    EXPECT_TRUE(std::isfinite(ran.result.loss_sum));
    EXPECT_NEAR(ran.result.loss_sum, 2 * expected.loss,
                0.02 * expected.loss);  // nearly piecewise linear there
    for (const float v : ran[head.dlogits]) EXPECT_TRUE(std::isfinite(v));
}

TEST(Loss, NanIsSeen) {
    const Case c{{1, 21, 3, 3}, 9, 9};
    reference::Tensor logits = reference::random_tensor(c.logits, 1);
    logits.at(0, 7, 1, 1) = NAN;
    const Head head(c, logits, random_labels(c, 1.0), {});
    const Ran ran(head.t);
    EXPECT_TRUE(std::isnan(ran.result.loss_sum));
}

TEST(Loss, UnknownClassIsRefused) {
    const Case c{{1, 21, 3, 3}, 9, 9};
    std::vector<std::uint8_t> labels = random_labels(c, 1.0);
    labels[40] = 21;
    const Head head(c, reference::random_tensor(c.logits, 1), labels, {});
    EXPECT_THROW(Ran{head.t}, DataError);
}

}  // namespace
}  // namespace deeplab::testing
