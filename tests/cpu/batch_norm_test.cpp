#include <span>

#include "ops/tiny_plan.h"

namespace deeplab::testing {
namespace {

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
    std::unique_ptr<comm::Communicator> split_by_host() override { return nullptr; }
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
        t.node(graph::BatchNormAct{.activation = graph::Activation::none, .momentum = 1.0f},
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
            nullptr, {.activation = graph::Activation::none, .momentum = 1.0f});
        Values first = expected.y.data;
        first.resize(x[i].data.size());
        EXPECT_TRUE(near(executable->download(y[i]), first, tolerance));
        EXPECT_TRUE(near(executable->download(variances[i]), expected.running_variance, tolerance));
    }
}

}  // namespace
}  // namespace deeplab::testing
