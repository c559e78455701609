// Every op, forward and backward, against PyTorch in double precision (ops.h5): the references of
// tests/reference and the CPU backend.

#include "golden/fixture.h"
#include "ops/tiny_norm.h"
#include "reference/interpreter.h"

namespace deeplab::testing {
namespace {

using reference::random_tensor;
using reference::Tensor;

// Fixtures hold floats; resizes have their coordinates in float (math/bilinear.h).
constexpr double reference_tolerance = 2e-6;

class Golden : public ::testing::Test {
protected:
    // body(case's name, its geometry) for at least `least` cases of `op`.
    template <class Body>
    void each(const std::string& op, std::size_t least, const Body& body) {
        const std::vector<std::string> names = fixture_.list(op);
        EXPECT_GE(names.size(), least);
        for (const std::string& name : names) {
            SCOPED_TRACE(cat_(op, name));
            body(cat_(op, name) + "/", fixture_.ints(cat_(op, name) + "/geometry"));
        }
    }
    template <class Values>
    void agrees(const Values& actual, const std::string& name, double limit) {
        EXPECT_TRUE(near(actual, fixture_.floats(name), limit)) << name;
        ++compared_;
    }
    void agree_on_the_loss(const std::string& group, bool align_corners);
    void TearDown() override { EXPECT_GT(compared_, 0); }

    const Fixture fixture_{"ops.h5"};

private:
    static std::string cat_(const std::string& a, const std::string& b) { return a + "/" + b; }
    int compared_ = 0;
};

TEST_F(Golden, Convolution) {
    each("conv2d", 46, [&](const std::string& path, const std::vector<std::int64_t>& g) {
        const Shape shape{g[0], g[1], g[2], g[3]}, filter{g[4], g[1] / g[10], g[5], g[6]};
        const graph::ConvGeometry geometry{g[7], g[8], g[9], g[10]};
        const bool bias = g[11] != 0;
        const Tensor x = random_tensor(shape, 1), w = random_tensor(filter, 2),
                     b = random_tensor({1, filter.n, 1, 1}, 3);
        const Tensor y = reference::conv2d(x, w, bias ? b.data : Values{}, geometry);
        const Tensor dy = random_tensor(y.shape, 9);
        agrees(y.data, path + "y", reference_tolerance);
        agrees(reference::conv2d_grad_data(dy, w, shape, geometry).data, path + "dx",
               reference_tolerance);
        agrees(reference::conv2d_grad_weights(x, dy, filter, geometry).data, path + "dw",
               reference_tolerance);
        if (bias) agrees(reference::conv2d_grad_bias(dy), path + "db", reference_tolerance);

        TinyPlan t;
        const std::size_t pw = t.parameter(w), pb = t.parameter(b, graph::ParameterKind::bias);
        const TensorId in = t.input(x), gradient = t.input(dy), out = t.arena(y.shape),
                       dx = t.arena(shape);
        std::vector<TensorId> inputs = {in, t.value(pw)}, gradients = {t.gradient(pw)};
        if (bias) {
            inputs.push_back(t.value(pb));
            gradients.push_back(t.gradient(pb));
        }
        t.node(graph::Conv2d{geometry}, inputs, {out});
        t.node(graph::Conv2dGradData{geometry}, {gradient, t.value(pw)}, {dx});
        t.node(graph::Conv2dGradWeights{geometry}, {in, gradient}, gradients);
        const Ran ran(t);
        agrees(ran[out], path + "y", tolerance);
        agrees(ran[dx], path + "dx", tolerance);
        agrees(ran[t.gradient(pw)], path + "dw", tolerance);
        if (bias) agrees(ran[t.gradient(pb)], path + "db", tolerance);
    });
}

constexpr graph::Activation activations[] = {graph::Activation::none, graph::Activation::relu,
                                             graph::Activation::relu6};

TEST_F(Golden, ActivatedInputOfADepthwiseConvolution) {
    each("activated", 4, [&](const std::string& path, const std::vector<std::int64_t>& g) {
        const Shape shape{g[0], g[1], g[2], g[3]};
        const graph::ConvGeometry geometry{g[4], g[5], g[6], g[1]};
        const graph::Activation input = activations[g[7]];
        Tensor x = random_tensor(shape, 1);
        if (input == graph::Activation::relu6)
            for (double& v : x.data) v *= 8;
        const Tensor w = random_tensor({g[1], 1, 3, 3}, 2),
                     dy = random_tensor(reference::conv2d(x, w, {}, geometry).shape, 9);
        TinyPlan t;
        const std::size_t pw = t.parameter(w);
        const TensorId in = t.input(x), gradient = t.input(dy), y = t.arena(dy.shape),
                       dx = t.arena(shape);
        t.node(graph::Conv2d{geometry, input}, {in, t.value(pw)}, {y});
        t.node(graph::Conv2dGradData{geometry, input}, {gradient, t.value(pw), in}, {dx});
        t.node(graph::Conv2dGradWeights{geometry, input}, {in, gradient}, {t.gradient(pw)});
        const Ran ran(t);
        reference::Interpreter expected(t.plan, 0);
        for (const auto& [id, value] : t.given) expected.give(id, value);
        expected.run(t.step());
        for (const auto& [id, name] : {std::pair{y, "y"}, {dx, "dx"}, {t.gradient(pw), "dw"}}) {
            agrees(expected.value(id).data, path + name, reference_tolerance);
            agrees(ran[id], path + name, tolerance);
        }
    });
}

TEST_F(Golden, BatchNormAct) {
    each("batch_norm", 11, [&](const std::string& path, const std::vector<std::int64_t>& g) {
        NormCase c{{g[0], g[1], g[2], g[3]},
                   {.activation = activations[g[4]], .residual = g[5] != 0, .frozen = g[6] != 0}};
        c.op.eps = fixture_.floats(path + "eps_momentum")[0];
        c.op.momentum = fixture_.floats(path + "eps_momentum")[1];
        const Shape channel{1, c.x.c, 1, 1};
        const Tensor x = random_tensor(c.x, 1), residual = random_tensor(c.x, 2),
                     dy = random_tensor(c.x, 9);
        reference::BatchNormParameters p{
            random_tensor(channel, 3).data, random_tensor(channel, 4).data,
            random_tensor(channel, 5).data, random_tensor(channel, 6).data};
        for (double& v : p.running_variance) v = std::abs(v) + 0.5;
        if (c.op.activation == graph::Activation::relu6)
            for (double& v : p.gamma) v *= 8;

        const auto y = reference::batch_norm_act(x, p, c.op.residual ? &residual : nullptr, c.op);
        const auto d = reference::batch_norm_act_grad(x, p, y, dy, c.op);
        agrees(y.y.data, path + "y", reference_tolerance);
        agrees(y.running_mean, path + "running_mean", reference_tolerance);
        agrees(y.running_variance, path + "running_var", reference_tolerance);
        agrees(d.dx.data, path + "dx", reference_tolerance);
        agrees(d.dgamma, path + "dgamma", reference_tolerance);
        agrees(d.dbeta, path + "dbeta", reference_tolerance);
        if (c.op.residual) agrees(d.dz.data, path + "dresidual", reference_tolerance);

        TinyPlan t;
        TinyNorm norm(t, c, x, p, residual);
        norm.backward(t, {dy});
        const Ran ran(t);
        agrees(ran[norm.y], path + "y", tolerance);
        agrees(ran[norm.mean], path + "running_mean", tolerance);
        agrees(ran[norm.variance], path + "running_var", tolerance);
        agrees(ran[norm.dx], path + "dx", tolerance);
        agrees(ran[t.gradient(norm.gamma)], path + "dgamma", tolerance);
        agrees(ran[t.gradient(norm.beta)], path + "dbeta", tolerance);
        if (c.op.residual) agrees(ran[norm.dz], path + "dresidual", tolerance);
    });
}

TEST_F(Golden, MaxPool) {
    each("max_pool", 6, [&](const std::string& path, const std::vector<std::int64_t>& g) {
        const graph::MaxPool op{g[4], g[5], g[6]};
        Tensor x = random_tensor({g[0], g[1], g[2], g[3]}, 1);
        if (g[7] != 0) {  // ties: the first wins
            for (double& v : x.data) v = std::nearbyint(v * 4) / 4;
        }
        const reference::MaxPool pooled = reference::max_pool(x, op);
        const Tensor dy = random_tensor(pooled.y.shape, 9);
        agrees(pooled.y.data, path + "y", reference_tolerance);
        agrees(reference::max_pool_grad(dy, pooled.arg, x.shape, op).data, path + "dx",
               reference_tolerance);

        TinyPlan t;
        const TensorId y = t.arena(dy.shape), arg = t.arena(dy.shape, DType::u8),
                       dx = t.arena(x.shape);
        t.node(op, {t.input(x)}, {y, arg});
        t.node(graph::MaxPoolGrad{op.kernel, op.stride, op.pad}, {t.input(dy), arg}, {dx});
        const Ran ran(t);
        agrees(ran[y], path + "y", tolerance);
        agrees(ran[dx], path + "dx", tolerance);
    });
}

TEST_F(Golden, GlobalAveragePool) {
    each("global_average_pool", 2,
         [&](const std::string& path, const std::vector<std::int64_t>& g) {
             const Tensor x = random_tensor({g[0], g[1], g[2], g[3]}, 1),
                          dy = random_tensor({g[0], g[1], 1, 1}, 9);
             agrees(reference::global_average_pool(x).data, path + "y", reference_tolerance);
             agrees(reference::global_average_pool_grad(dy, x.shape).data, path + "dx",
                    reference_tolerance);

             TinyPlan t;
             const TensorId y = t.arena(dy.shape), dx = t.arena(x.shape);
             t.node(graph::GlobalAveragePool{}, {t.input(x)}, {y});
             t.node(graph::GlobalAveragePoolGrad{}, {t.input(dy)}, {dx});
             const Ran ran(t);
             agrees(ran[y], path + "y", tolerance);
             agrees(ran[dx], path + "dx", tolerance);
         });
}

TEST_F(Golden, Upsample) {
    for (const bool align : {true, false}) {
        each(align ? "upsample" : "upsample_half_pixel", align ? 7 : 6,
             [&](const std::string& path, const std::vector<std::int64_t>& g) {
                 const Tensor x = random_tensor({g[0], g[1], g[2], g[3]}, 1),
                              dy = random_tensor({g[0], g[1], g[4], g[5]}, 9);
                 agrees(reference::upsample(x, g[4], g[5], align).data, path + "y",
                        reference_tolerance);
                 agrees(reference::upsample_grad(dy, x.shape, align).data, path + "dx",
                        reference_tolerance);

                 TinyPlan t;
                 const TensorId y = t.arena(dy.shape), dx = t.arena(x.shape);
                 t.node(graph::Upsample{align}, {t.input(x)}, {y});
                 t.node(graph::UpsampleGrad{align}, {t.input(dy)}, {dx});
                 const Ran ran(t);
                 agrees(ran[y], path + "y", tolerance);
                 agrees(ran[dx], path + "dx", tolerance);
             });
    }
}

TEST_F(Golden, Dropout) {
    each("dropout", 2, [&](const std::string& path, const std::vector<std::int64_t>& g) {
        const Tensor x = random_tensor({g[0], g[1], g[2], g[3]}, 1), dy = random_tensor(x.shape, 9);
        const auto layer = static_cast<std::uint32_t>(g[4]);
        constexpr float probability = 0.3f;
        constexpr std::uint64_t seed = 12345;
        TinyPlan t;
        std::vector<math::SampleKey> keys;
        for (std::int64_t n = 0; n < g[0]; ++n) {
            keys.push_back({3, static_cast<std::uint32_t>(100 + 7 * n)});
            t.samples.push_back({keys.back().epoch, keys.back().sample});
        }
        agrees(reference::dropout(x, probability, layer, seed, keys).data, path + "y",
               reference_tolerance);
        agrees(reference::dropout(dy, probability, layer, seed, keys).data, path + "dx",
               reference_tolerance);

        const TensorId y = t.arena(x.shape), dx = t.arena(x.shape);
        t.node(graph::Dropout{probability, layer}, {t.input(x)}, {y});
        t.node(graph::DropoutGrad{probability, layer}, {t.input(dy)}, {dx});
        const Ran ran(t, {.seed = seed, .poison = true});
        agrees(ran[y], path + "y", tolerance);
        agrees(ran[dx], path + "dx", tolerance);
    });
}

TEST_F(Golden, Sum) {
    each("sum", 1, [&](const std::string& path, const std::vector<std::int64_t>& g) {
        const Shape shape{g[0], g[1], g[2], g[3]};
        const std::vector<Tensor> x = {random_tensor(shape, 1), random_tensor(shape, 2),
                                       random_tensor(shape, 3)};
        agrees(reference::sum(x).data, path + "y", reference_tolerance);
        TinyPlan t;
        const TensorId y = t.arena(shape);
        t.node(graph::Sum{}, {t.input(x[0]), t.input(x[1]), t.input(x[2])}, {y});
        agrees(Ran(t)[y], path + "y", tolerance);
    });
}

void Golden::agree_on_the_loss(const std::string& group, bool align_corners) {
    each(group, 6, [&](const std::string& path, const std::vector<std::int64_t>& g) {
        const graph::SegmentationLoss op{.gradient_scale = 0.25f, .align_corners = align_corners};
        Tensor logits = random_tensor({g[0], g[1], g[2], g[3]}, 1);
        for (double& v : logits.data) v *= 8;
        const auto labels = random_labels(static_cast<std::size_t>(g[0] * g[4] * g[5]),
                                          static_cast<std::uint32_t>(g[1]),
                                          static_cast<double>(fixture_.floats(path + "valid")[0]));
        const auto unscaled = [](auto values) {
            for (auto& v : values) v *= 4;
            return values;
        };
        const auto expected = reference::segmentation_loss(logits, labels, g[4], g[5], op);
        agrees(Values{expected.loss}, path + "loss", reference_tolerance);
        agrees(unscaled(expected.dlogits.data), path + "dlogits", reference_tolerance);

        TinyPlan t;
        const TensorId in = t.input(logits), truth = t.label_input({g[0], 1, g[4], g[5]}, labels),
                       loss = t.result(), dlogits = t.arena(logits.shape);
        t.node(op, {in, truth}, {loss, dlogits});
        const Ran ran(t);
        agrees(Values{ran.result.loss_sum}, path + "loss", tolerance);
        agrees(unscaled(ran[dlogits]), path + "dlogits", tolerance);
    });
}

TEST_F(Golden, SegmentationLoss) {
    agree_on_the_loss("segmentation_loss", true);
    agree_on_the_loss("segmentation_loss_half_pixel", false);
}

// torch.optim.SGD, its step() repeated, on the gradient of a 1x1 convolution's weights.
TEST_F(Golden, Sgd) {
    constexpr double rates[] = {0.05, 0.04, 0.03};
    constexpr double valid_pixels = 37;
    each("sgd", 3, [&](const std::string& path, const std::vector<std::int64_t>& g) {
        const Tensor w = random_tensor({g[0], g[1], g[2], g[3]}, 2),
                     x = random_tensor({2, g[1], 3, 5}, 1), dy = random_tensor({2, g[0], 3, 5}, 9);
        const auto steps = static_cast<int>(g[4]);
        const float clip = fixture_.floats(path + "clip")[0];
        Values value = w.data, buffer(w.data.size());
        Values gradient = reference::conv2d_grad_weights(x, dy, w.shape, {}).data;
        double squares = 0;
        for (double& v : gradient) {
            v /= valid_pixels;
            squares += v * v;
        }
        if (clip > 0) {
            for (double& v : gradient) v *= static_cast<double>(clip) / (std::sqrt(squares) + 1e-6);
        }
        for (const double rate : rates) {
            reference::sgd(value, buffer, gradient, rate, static_cast<double>(0.9f),
                           static_cast<double>(0.01f), steps);
        }
        agrees(value, path + "w", reference_tolerance);
        agrees(buffer, path + "momentum", reference_tolerance);

        TinyPlan t;
        const std::size_t pw = t.parameter(w);
        t.node(graph::Conv2dGradWeights{}, {t.input(x), t.input(dy)}, {t.gradient(pw)});
        t.plan.buckets = {{0, t.plan.parameter_count}};
        t.all_reduce(0);
        t.update();
        t.plan.update = {0.9f, clip, {{0, t.plan.parameter_count, 1.0f, 0.01f, steps}}};
        const auto backend = device(2);
        const auto a = comm::make_self(), b = comm::make_self();
        t.set_up(*backend);
        const auto executable = backend->compile(t.plan, {a.get(), b.get()}, {.poison = true});
        for (const double rate : rates) {
            exec::MicroBatch step = t.step();
            step.learning_rate = rate;
            step.valid_pixels = valid_pixels;
            executable->run(step);
        }
        agrees(backend->download(t.plan.parameters[pw], exec::Slot::value), path + "w", tolerance);
        agrees(backend->download(t.plan.parameters[pw], exec::Slot::momentum), path + "momentum",
               tolerance);
    });
}

}  // namespace
}  // namespace deeplab::testing
