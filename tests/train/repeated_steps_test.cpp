// steps_per_iteration on the CPU backend, against trajectories of torch.optim.SGD
// (tests/golden/make_sgd.py).
#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/config/config.h"
#include "deeplab/cpu/cpu_backend.h"
#include "harness/source_dir.h"
#include "ops/tiny_plan.h"

namespace deeplab::testing {
namespace {

class Fixture {
public:
    Fixture() {
        std::istringstream lines(read_text(testing::source_dir() / "tests/golden/sgd.txt"));
        for (std::string line; std::getline(lines, line);) {
            const auto colon = line.find(':');
            std::istringstream values(line.substr(colon + 1));
            std::vector<double>& row = rows_[line.substr(0, colon)];
            for (double v = 0; values >> v;) row.push_back(v);
        }
    }
    const std::vector<double>& operator[](const std::string& name) const { return rows_.at(name); }
    double number(const std::string& name) const { return rows_.at(name).at(0); }

private:
    std::map<std::string, std::vector<double>> rows_;
};

constexpr int steps_per_iteration[] = {1, 2, 4, 5};

// A parameter for each number of steps, all of the same value and gradient: the weights of 1x1
// convolutions of a picture of one pixel, 1, whose gradient is the output's.
struct Network {
    TinyPlan t;
    std::vector<std::size_t> parameters;

    Network(const Fixture& f, bool accumulate_decay) {
        const auto size = static_cast<std::int64_t>(f["initial"].size());
        reference::Tensor one({1, 1, 1, 1}), dy({1, size, 1, 1}), weights({size, 1, 1, 1});
        one.data = {1.0};
        weights.data = f["initial"];
        const TensorId x = t.input(one), gradient = t.input(dy);
        const TensorId truth = t.label_input({1, 1, 1, 1}, {0});
        const TensorId logits = t.input(reference::random_tensor({1, 2, 1, 1}, 1));
        t.node(graph::SegmentationLoss{255, 1.0f}, {logits, truth},
               {t.result(), t.arena({1, 2, 1, 1})});
        t.plan.update = {.momentum = static_cast<float>(f.number("momentum")),
                         .clip_norm = 0.0f,
                         .segments = {},
                         .accumulate_decay = accumulate_decay};
        for (const int steps : steps_per_iteration) {
            const std::size_t w = t.parameter(weights);
            parameters.push_back(w);
            t.node(graph::Conv2dGradWeights{}, {x, gradient}, {t.gradient(w)});
            const std::int64_t offset = t.plan.parameters[w].offset;
            t.plan.update.segments.push_back({offset, t.plan.parameter_count - offset, 1.0f,
                                              static_cast<float>(f.number("weight_decay")), steps});
        }
        t.plan.buckets = {{0, t.plan.parameter_count}};
        t.all_reduce(0);
        t.update();
    }
};

void expect_trajectory(const std::string& kind, bool accumulate_decay) {
    const Fixture f;
    const Network network(f, accumulate_decay);
    const auto backend = cpu::make_cpu_backend(2);
    const auto a = comm::make_self(), b = comm::make_self();
    network.t.set_up(*backend);
    const auto executable = backend->compile(network.t.plan, {a.get(), b.get()}, {.poison = true});
    config::Config config;
    config.train.iterations = static_cast<std::int64_t>(f.number("scheduled"));
    config.optimizer.lr = f.number("lr");
    config.optimizer.power = f.number("power");

    const auto iterations = static_cast<std::int64_t>(f.number("iterations"));
    ASSERT_GE(iterations, 3);
    for (std::int64_t i = 0; i < iterations; ++i) {
        exec::MicroBatch step = network.t.step();
        std::vector<float> inputs(step.images.begin(), step.images.end());
        const std::vector<float> gradient = floats(f[cat("gradient ", i)]);
        std::copy(gradient.begin(), gradient.end(), inputs.begin() + 1);  // behind the one pixel
        step.images = inputs;
        step.learning_rate = config::learning_rate(config, i);
        step.valid_pixels = 1;
        ASSERT_TRUE(executable->run(step).finite);
        for (std::size_t k = 0; k < std::size(steps_per_iteration); ++k) {
            const graph::Parameter& p = network.t.plan.parameters[network.parameters[k]];
            const std::string name = cat(kind, " ", steps_per_iteration[k], " ", i);
            EXPECT_TRUE(near(backend->download(p, exec::Slot::value), f[name + " value"], 5e-7))
                << name;
            EXPECT_TRUE(near(backend->download(p, exec::Slot::momentum), f[name + " buffer"], 5e-7))
                << name;
        }
    }
}

TEST(RepeatedSteps, AreTorchs) { expect_trajectory("fresh", false); }

TEST(RepeatedSteps, AreThoseOfATorchThatDecaysIntoTheGradient) { expect_trajectory("into", true); }

}  // namespace
}  // namespace deeplab::testing
