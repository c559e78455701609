#include <limits>

#include "ops/tiny_plan.h"

namespace deeplab::testing {
namespace {

constexpr double valid_pixels = 37;
constexpr float gradient_scale = 0.125f;

// One 1x1 convolution whose weights get the gradient sum over pixels of dy x^T, and a head that
// sets gradient_scale.
struct Step {
    TinyPlan t;
    std::size_t w;
    reference::Tensor x = reference::random_tensor({2, 24, 5, 5}, 1),
                      dy = reference::random_tensor({2, 40, 5, 5}, 2);
    const reference::Tensor weights = reference::random_tensor({40, 24, 1, 1}, 3);
    Values averaged;

    explicit Step(double spoil = 0) {
        if (spoil != 0) dy.data[5] = spoil;
        w = t.parameter(weights);
        const std::size_t b = t.parameter(reference::random_tensor({1, 40, 1, 1}, 4),
                                          graph::ParameterKind::bias);
        const reference::Tensor logits = reference::random_tensor({1, 3, 2, 2}, 5);
        const TensorId truth = t.label_input({1, 1, 4, 4}, std::vector<std::uint8_t>(16, 1));
        t.node(graph::SegmentationLoss{255, gradient_scale}, {t.input(logits), truth},
               {t.result(), t.arena(logits.shape)});
        t.node(graph::Conv2dGradWeights{}, {t.input(x), t.input(dy)},
               {t.gradient(w), t.gradient(b)});
        t.plan.buckets = {{0, 960}, {960, t.plan.parameter_count - 960}};
        t.all_reduce(0);
        t.all_reduce(1);
        t.update();
        t.plan.update = {
            0.9f,
            0.0f,
            {{0, 960, 10.0f, 1e-2f, 1}, {960, t.plan.parameter_count - 960, 1.0f, 1e-2f, 3}}};
        averaged = reference::conv2d_grad_weights(x, dy, weights.shape, {}).data;
        for (double& g : averaged) g /= static_cast<double>(gradient_scale) * valid_pixels;
        bias_gradient = reference::conv2d_grad_bias(dy);
        for (double& g : bias_gradient) g /= static_cast<double>(gradient_scale) * valid_pixels;
    }
    exec::MicroBatch step() const {
        exec::MicroBatch s = t.step();
        s.learning_rate = 0.05;
        s.valid_pixels = valid_pixels;
        return s;
    }
    double norm() const {
        double squares = 0;
        for (const double g : averaged) squares += g * g;
        for (const double g : bias_gradient) squares += g * g;
        return std::sqrt(squares);
    }
    Values bias_gradient;
};

struct Trained {
    std::unique_ptr<exec::Backend> backend = device(2);
    std::unique_ptr<comm::Communicator> a = comm::make_self(), b = comm::make_self();
    std::unique_ptr<exec::Executable> executable;

    explicit Trained(const Step& s, bool overlap = true) {
        s.t.set_up(*backend);
        executable = backend->compile(s.t.plan, {a.get(), b.get()},
                                      {.overlap = overlap, .poison = true});
    }
    std::vector<float> get(const Step& s, exec::Slot slot, std::size_t p = 0) const {
        return backend->download(s.t.plan.parameters[p], slot);
    }
};

TEST(Update, MicroBatchesAddUp) {
    const Step s;
    Trained trained(s);
    exec::MicroBatch step = s.step();
    step.last_micro = false;
    EXPECT_EQ(trained.executable->run(step).gradient_norm, 0);
    EXPECT_EQ(trained.get(s, exec::Slot::value), floats(s.weights.data))
        << "not updated before the last";
    step.first_micro = false;
    step.last_micro = true;
    EXPECT_NEAR(trained.executable->run(step).gradient_norm, 2 * s.norm(), 2e-5 * s.norm());
    EXPECT_NE(trained.get(s, exec::Slot::value), floats(s.weights.data));
}

TEST(Update, NotAppliedWhenNotFinite) {
    for (const double bad : {static_cast<double>(NAN), std::numeric_limits<double>::infinity()}) {
        const Step s(bad);
        Trained trained(s);
        const exec::MicroBatchResult r = trained.executable->run(s.step());
        EXPECT_FALSE(r.finite);
        EXPECT_EQ(trained.get(s, exec::Slot::value), floats(s.weights.data));
        EXPECT_EQ(trained.get(s, exec::Slot::momentum), std::vector<float>(960, 0.0f));
    }
}

TEST(Update, NoValidPixelMeansZeroGradient) {
    const Step s;
    Trained trained(s);
    exec::MicroBatch step = s.step();
    step.valid_pixels = 0;
    const exec::MicroBatchResult r = trained.executable->run(step);
    EXPECT_TRUE(r.finite);
    EXPECT_EQ(r.gradient_norm, 0);
    Values w = s.weights.data, buffer(w.size());
    reference::sgd(w, buffer, Values(w.size(), 0.0), 0.5, 0.9, 1e-2, 1);  // weight decay alone
    EXPECT_TRUE(near(trained.get(s, exec::Slot::value), w, tolerance));
}

TEST(Update, OverlapChangesNoBit) {
    const Step s;
    Trained now(s, false), later(s, true);
    for (int i = 0; i < 2; ++i) {
        now.executable->run(s.step());
        later.executable->run(s.step());
    }
    EXPECT_EQ(now.get(s, exec::Slot::value), later.get(s, exec::Slot::value));
    EXPECT_EQ(now.get(s, exec::Slot::momentum), later.get(s, exec::Slot::momentum));
}

}  // namespace
}  // namespace deeplab::testing
