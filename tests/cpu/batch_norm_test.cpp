#include <span>

#include "ops/tiny_norm.h"

namespace deeplab::testing {
namespace {

using graph::Activation;

NormCase norm_case(const Shape& x, Activation activation, bool residual, bool frozen,
                   int gradients = 1, bool sliced = false) {
    return {
        x, {.activation = activation, .residual = residual, .frozen = frozen}, gradients, sliced};
}

Values positive(Values v) {
    for (double& e : v) e = static_cast<double>(static_cast<float>(std::abs(e) + 0.5));
    return v;
}

class BatchNormTest : public ::testing::TestWithParam<NormCase> {
protected:
    const NormCase c = GetParam();
    const Shape channel{1, c.x.c, 1, 1};
    reference::Tensor x = reference::random_tensor(c.x, 1);
    const reference::Tensor residual = reference::random_tensor(c.x, 2);
    const reference::BatchNormParameters p{reference::random_tensor(channel, 3).data,
                                           reference::random_tensor(channel, 4).data,
                                           reference::random_tensor(channel, 5).data,
                                           positive(reference::random_tensor(channel, 6).data)};

    std::vector<reference::Tensor> gradients() const {
        std::vector<reference::Tensor> all;
        for (int g = 0; g < c.gradients; ++g)
            all.push_back(reference::random_tensor(c.x, 10 + static_cast<std::uint64_t>(g)));
        return all;
    }
    reference::BatchNorm expected() const {
        return reference::batch_norm_act(x, p, c.op.residual ? &residual : nullptr, c.op);
    }
};

TEST_P(BatchNormTest, Forward) {
    TinyPlan t;
    const TinyNorm i(t, c, x, p, residual);
    const Ran ran(t);
    const auto wanted = expected();
    EXPECT_TRUE(near(ran[i.y], wanted.y.data, tolerance));
    Values saved = wanted.mean;
    saved.insert(saved.end(), wanted.invstd.begin(), wanted.invstd.end());
    EXPECT_TRUE(near(ran[i.saved], saved, tolerance));
    EXPECT_TRUE(near(ran[i.mean], wanted.running_mean, tolerance));
    EXPECT_TRUE(near(ran[i.variance], wanted.running_variance, tolerance));
}

TEST_P(BatchNormTest, Backward) {
    TinyPlan t;
    TinyNorm i(t, c, x, p, residual);
    i.backward(t, gradients());
    Ran ran(t);
    auto wanted = reference::batch_norm_act_grad(x, p, expected(), reference::sum(gradients()),
                                                 c.op);
    EXPECT_TRUE(near(ran[i.dx], wanted.dx.data, tolerance));
    if (c.op.residual) {
        EXPECT_TRUE(near(ran[i.dz], wanted.dz.data, tolerance));
    }
    EXPECT_TRUE(near(ran[t.gradient(i.gamma)], wanted.dgamma, tolerance));
    EXPECT_TRUE(near(ran[t.gradient(i.beta)], wanted.dbeta, tolerance));

    // On another micro-batch the parameters' gradients add up.
    exec::Step step = t.step();
    step.first_micro = false;
    ran.executable->run(step);
    if (c.op.frozen) {
        for (double& v : wanted.dgamma) v *= 2;
        for (double& v : wanted.dbeta) v *= 2;
        EXPECT_TRUE(near(ran[t.gradient(i.gamma)], wanted.dgamma, tolerance));
        EXPECT_TRUE(near(ran[t.gradient(i.beta)], wanted.dbeta, tolerance));
    }
}

// Where the ReLU of the forward pass gave zero, the gradient is zero, to the last bit of x around
// the kink.
TEST(BatchNorm, MaskIsTheForwardDecision) {
    const Shape shape{1, 64, 64, 4};
    reference::Tensor x(shape);
    const reference::Tensor noise = reference::random_tensor(shape, 1);
    const Values gamma = positive(reference::random_tensor({1, 64, 1, 1}, 3).data);
    const Values beta = reference::random_tensor({1, 64, 1, 1}, 4).data;
    const Values mean(64, 0.3f), variance(64, 1.7f);
    for (std::int64_t channel = 0; channel < 64; ++channel) {  // z is within rounding of zero
        const auto k = static_cast<std::size_t>(channel);
        const double kink = mean[k] - beta[k] / gamma[k] * std::sqrt(variance[k] + 1e-5);
        for (std::int64_t h = 0; h < 64; ++h) {
            for (std::int64_t w = 0; w < 4; ++w) {
                x.at(0, channel, h, w) = static_cast<double>(
                    static_cast<float>(kink * (1.0 + 3e-7 * noise.at(0, channel, h, w))));
            }
        }
    }
    reference::Tensor ones(shape);
    std::fill(ones.data.begin(), ones.data.end(), 1.0);
    TinyPlan t;
    const TensorId in = t.input(x);
    const std::size_t g = t.channel_parameter(gamma), b = t.channel_parameter(beta);
    const TensorId y = t.arena(shape), saved = t.arena({1, 128, 1, 1}), gsums = t.exchange(128),
                   dx = t.arena(shape);
    const TensorId dy = t.input(ones);
    t.node(graph::BatchNormAct{.frozen = true},
           {in, t.value(g), t.value(b), t.state(mean), t.state(variance)}, {y, saved});
    t.node(graph::BatchNormGradSums{}, {in, t.value(g), t.value(b), saved, dy},
           {gsums, t.gradient(g), t.gradient(b)});
    t.node(graph::BatchNormActGrad{.frozen = true}, {in, t.value(g), t.value(b), saved, gsums, dy},
           {dx});
    const Ran ran(t);
    const std::vector<float> outputs = ran[y], gradients = ran[dx], passed = ran[t.gradient(b)];
    std::size_t positive_outputs = 0;
    double sum = 0;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        EXPECT_EQ(outputs[i] > 0, gradients[i] > 0) << i;
        positive_outputs += outputs[i] > 0 ? 1 : 0;
    }
    for (const float v : passed) sum += static_cast<double>(v);
    EXPECT_GT(positive_outputs, outputs.size() / 10);
    EXPECT_LT(positive_outputs, outputs.size() * 9 / 10);
    EXPECT_EQ(sum, static_cast<double>(positive_outputs));
}

// Stands for a group of two ranks that hold the same samples.
class Doubling final : public comm::Communicator {
public:
    std::vector<std::size_t> messages;
    int open = 0;

    int rank() const override { return 0; }
    int size() const override { return 2; }
    std::string description() const override { return "doubling"; }
    void all_reduce(void*, std::size_t, DType, comm::ReduceOp, const char*) override { FAIL(); }
    comm::Request start_all_reduce(void* data, std::size_t count, DType type, comm::ReduceOp,
                                   const char*) override {
        EXPECT_EQ(type, DType::f64);
        messages.push_back(count);
        ++open;
        for (double& v : std::span(static_cast<double*>(data), count)) v *= 2;
        return 0;
    }
    void finish(comm::Request) override { --open; }
    void progress() override {}
    void broadcast(void*, std::size_t, int, const char*) override {}
    void barrier(const char*) override {}
    std::vector<std::string> all_gather(const std::string& text, const char*) override {
        return {text, text};
    }
    std::unique_ptr<comm::Communicator> split(int, int) override { return nullptr; }
    std::unique_ptr<comm::Communicator> split_by_node() override { return nullptr; }
};

// Two batch norms in one message: the statistics are those of twice the samples.
TEST(BatchNorm, ExchangeIsOneMessage) {
    const std::vector<Shape> shapes = {{2, 20, 5, 3}, {2, 7, 1, 1}};
    TinyPlan t;
    std::vector<TensorId> in, sums, y, variances;
    std::vector<reference::Tensor> x;
    for (const Shape& s : shapes) {
        x.push_back(reference::random_tensor(s, 1));
        in.push_back(t.input(x.back()));
        t.exchange(3);  // something between them in the plan
        sums.push_back(t.exchange(2 * s.c + 1));
        t.node(graph::BatchNormSums{}, {in.back()}, {sums.back()});
    }
    std::swap(sums[0], sums[1]);
    t.plan.messages = 1;
    t.node(graph::ExchangeStart{0}, sums, sums);
    t.node(graph::ExchangeFinish{0}, sums, sums);
    std::swap(sums[0], sums[1]);
    for (std::size_t i = 0; i < shapes.size(); ++i) {
        const auto channels = static_cast<std::size_t>(shapes[i].c);
        const std::size_t gamma = t.channel_parameter(Values(channels, 1)),
                          beta = t.channel_parameter(Values(channels, 0));
        const TensorId mean = t.state(Values(channels, 0));
        variances.push_back(t.state(Values(channels, 1)));
        y.push_back(t.arena(shapes[i]));
        t.node(graph::BatchNormAct{.activation = Activation::none, .momentum = 1.0f},
               {in[i], t.value(gamma), t.value(beta), mean, variances.back(), sums[i]}, {y.back()});
    }
    const auto backend = device(2);
    t.set_up(*backend);
    const auto self = comm::make_self();
    Doubling group;
    const auto executable = backend->compile(t.plan, {self.get(), &group}, {});
    executable->run(t.step());
    EXPECT_EQ(group.messages, (std::vector<std::size_t>{41 + 15}));
    EXPECT_EQ(group.open, 0);
    for (std::size_t i = 0; i < shapes.size(); ++i) {
        const auto channels = static_cast<std::size_t>(shapes[i].c);
        reference::Tensor twice({2 * shapes[i].n, shapes[i].c, shapes[i].h, shapes[i].w});
        std::copy(x[i].data.begin(), x[i].data.end(), twice.data.begin());
        std::copy(x[i].data.begin(), x[i].data.end(),
                  twice.data.begin() + static_cast<std::ptrdiff_t>(x[i].data.size()));
        const auto expected = reference::batch_norm_act(
            twice,
            {Values(channels, 1), Values(channels, 0), Values(channels, 0), Values(channels, 1)},
            nullptr, {.activation = Activation::none, .momentum = 1.0f});
        Values first = expected.y.data;
        first.resize(x[i].data.size());
        EXPECT_TRUE(near(executable->download(y[i]), first, tolerance));
        EXPECT_TRUE(near(executable->download(variances[i]), expected.running_variance, tolerance));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, BatchNormTest,
    ::testing::Values(norm_case({2, 64, 9, 7}, Activation::relu, false, false),
                      norm_case({1, 1, 1, 7}, Activation::relu, false, false),
                      norm_case({3, 19, 5, 3}, Activation::relu, true, false),
                      norm_case({3, 19, 5, 3}, Activation::none, false, false, 2),
                      norm_case({2, 35, 4, 4}, Activation::none, true, false, 3),
                      norm_case({2, 48, 3, 3}, Activation::relu, true, true, 2),
                      norm_case({2, 33, 3, 5}, Activation::relu, false, true, 5),
                      norm_case({1, 21, 6, 6}, Activation::relu, false, false, 1, true),
                      norm_case({2, 16, 6, 6}, Activation::relu, false, false, 3, true),
                      norm_case({2, 24, 3, 3}, Activation::relu, true, false, 2, true),
                      norm_case({4, 40, 1, 1}, Activation::relu, false, false),
                      norm_case({2, 300, 3, 1}, Activation::none, false, true),
                      norm_case({2, 67, 5, 3}, Activation::none, true, true, 1),
                      norm_case({1, 37, 7, 5}, Activation::relu, true, true, 3, true),
                      norm_case({3, 131, 17, 9}, Activation::relu, true, false, 2),
                      norm_case({1, 256, 33, 5}, Activation::relu, false, false, 4)));

}  // namespace
}  // namespace deeplab::testing
