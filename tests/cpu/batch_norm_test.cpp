#include <span>

#include "tiny_plan.h"

namespace deeplab::testing {
namespace {

struct Case {
    Shape x;
    bool relu, residual, frozen;
    int gradients = 1;
    bool sliced = false;  // y, and every dy, are slices
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << to_string(c.x) << (c.relu ? " relu" : "") << (c.residual ? " residual" : "")
         << (c.frozen ? " frozen" : "") << " gradients " << c.gradients
         << (c.sliced ? " sliced" : "");
}

Values positive(Values v) {
    for (double& e : v) e = static_cast<double>(static_cast<float>(std::abs(e) + 0.5));
    return v;
}

class BatchNormTest : public ::testing::TestWithParam<Case> {
protected:
    const Case c = GetParam();
    const graph::BatchNormAct op{.relu = c.relu, .residual = c.residual, .frozen = c.frozen};
    const Shape channel{1, c.x.c, 1, 1};
    reference::Tensor x = reference::random_tensor(c.x, 1);
    const reference::Tensor residual = reference::random_tensor(c.x, 2);
    const reference::BatchNormParameters p{reference::random_tensor(channel, 3).data,
                                           reference::random_tensor(channel, 4).data,
                                           reference::random_tensor(channel, 5).data,
                                           positive(reference::random_tensor(channel, 6).data)};

    struct Ids {
        TensorId x, y, saved, sums, gsums, mean, variance, dz = graph::none, dx = graph::none;
        std::size_t gamma, beta;
    };

    Ids forward(TinyPlan& t) const {
        Ids i{};
        i.x = t.input(x);
        i.gamma = t.channel_parameter(p.gamma);
        i.beta = t.channel_parameter(p.beta);
        i.mean = t.state(p.running_mean);
        i.variance = t.state(p.running_variance);
        std::vector<TensorId> in = {i.x, t.value(i.gamma), t.value(i.beta), i.mean, i.variance};
        i.sums = t.exchange(2 * c.x.c + 1);
        if (!c.frozen) {
            t.plan.messages = 1;
            t.node(graph::BatchNormSums{}, {i.x}, {i.sums});
            t.node(graph::ExchangeStart{0}, {i.sums}, {i.sums});
            t.node(graph::ExchangeFinish{0}, {i.sums}, {i.sums});
            in.push_back(i.sums);
        }
        if (c.residual) in.push_back(t.input(residual));
        i.y = c.sliced ? t.slice(t.arena({c.x.n, c.x.c + 8, c.x.h, c.x.w}), 5, c.x.c)
                       : t.arena(c.x);
        i.saved = t.arena({1, 2 * c.x.c, 1, 1});
        t.node(op, in, {i.y, i.saved});
        return i;
    }
    std::vector<reference::Tensor> gradients() const {
        std::vector<reference::Tensor> all;
        for (int g = 0; g < c.gradients; ++g)
            all.push_back(reference::random_tensor(c.x, 10 + static_cast<std::uint64_t>(g)));
        return all;
    }
    void backward(TinyPlan& t, Ids& i) const {
        std::vector<TensorId> dy;
        for (const reference::Tensor& g : gradients()) {
            dy.push_back(t.input(g));
            if (c.sliced) dy.back() = t.as_slice(dy.back(), 3, 2);
        }
        std::vector<TensorId> in = {i.x, t.value(i.gamma), t.value(i.beta), i.saved};
        if (c.residual) in.push_back(i.y);
        in.insert(in.end(), dy.begin(), dy.end());
        i.gsums = t.exchange(2 * c.x.c);
        std::vector<TensorId> out = {i.gsums, t.gradient(i.gamma), t.gradient(i.beta)};
        if (c.residual) out.push_back(i.dz = t.arena(c.x));
        t.node(graph::BatchNormGradSums{c.relu, c.residual, c.gradients}, in, out);
        in = {i.x, t.value(i.gamma), t.value(i.beta), i.saved, i.gsums};
        if (!c.frozen) in.push_back(i.sums);
        if (c.residual) dy = {i.dz};
        in.insert(in.end(), dy.begin(), dy.end());
        i.dx = t.arena(c.x);
        t.node(graph::BatchNormActGrad{c.relu, c.residual, c.frozen,
                                       static_cast<std::int32_t>(dy.size())},
               in, {i.dx});
    }
};

TEST_P(BatchNormTest, Forward) {
    TinyPlan t;
    const Ids i = forward(t);
    const Ran ran(t);
    const auto expected = reference::batch_norm_act(x, p, c.residual ? &residual : nullptr, op);
    EXPECT_TRUE(near(ran[i.y], expected.y.data, tolerance));
    Values saved = expected.mean;
    saved.insert(saved.end(), expected.invstd.begin(), expected.invstd.end());
    EXPECT_TRUE(near(ran[i.saved], saved, tolerance));
    EXPECT_TRUE(near(ran[i.mean], expected.running_mean, tolerance));
    EXPECT_TRUE(near(ran[i.variance], expected.running_variance, tolerance));
}

TEST_P(BatchNormTest, Backward) {
    TinyPlan t;
    Ids i = forward(t);
    backward(t, i);
    Ran ran(t);
    const auto y = reference::batch_norm_act(x, p, c.residual ? &residual : nullptr, op);
    auto expected = reference::batch_norm_act_grad(x, p, y, reference::sum(gradients()), op);
    EXPECT_TRUE(near(ran[i.dx], expected.dx.data, tolerance));
    if (c.residual) {
        EXPECT_TRUE(near(ran[i.dz], expected.dz.data, tolerance));
    }
    EXPECT_TRUE(near(ran[t.gradient(i.gamma)], expected.dgamma, tolerance));
    EXPECT_TRUE(near(ran[t.gradient(i.beta)], expected.dbeta, tolerance));

    // On another micro-batch the parameters' gradients add up.
    exec::Step step = t.step();
    step.first_micro = false;
    ran.executable->run(step);
    if (c.frozen) {
        for (double& v : expected.dgamma) v *= 2;
        for (double& v : expected.dbeta) v *= 2;
        EXPECT_TRUE(near(ran[t.gradient(i.gamma)], expected.dgamma, tolerance));
        EXPECT_TRUE(near(ran[t.gradient(i.beta)], expected.dbeta, tolerance));
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
        t.node(graph::BatchNormAct{.relu = false, .momentum = 1.0f},
               {in[i], t.value(gamma), t.value(beta), mean, variances.back(), sums[i]}, {y.back()});
    }
    const auto backend = cpu::make_cpu_backend(2);
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
            nullptr, {.relu = false, .momentum = 1.0f});
        Values first = expected.y.data;
        first.resize(x[i].data.size());
        EXPECT_TRUE(near(executable->download(y[i]), first, tolerance));
        EXPECT_TRUE(near(executable->download(variances[i]), expected.running_variance, tolerance));
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, BatchNormTest,
                         ::testing::Values(Case{{2, 64, 9, 7}, true, false, false},
                                           Case{{1, 1, 1, 7}, true, false, false},
                                           Case{{3, 19, 5, 3}, true, true, false},
                                           Case{{3, 19, 5, 3}, false, false, false, 2},
                                           Case{{2, 35, 4, 4}, false, true, false, 3},
                                           Case{{2, 48, 3, 3}, true, true, true, 2},
                                           Case{{2, 33, 3, 5}, true, false, true, 5},
                                           Case{{1, 21, 6, 6}, true, false, false, 1, true},
                                           Case{{2, 16, 6, 6}, true, false, false, 3, true},
                                           Case{{2, 24, 3, 3}, true, true, false, 2, true},
                                           Case{{4, 40, 1, 1}, true, false, false},
                                           Case{{2, 300, 3, 1}, false, false, true}));

}  // namespace
}  // namespace deeplab::testing
