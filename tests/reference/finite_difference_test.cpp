// The gradient of every op's reference against central differences of its forward pass, in double
// precision. Kinks (ReLU, ties of a maximum) are kept further away than the step.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <string>

#include "deeplab/base/text.h"
#include "deeplab/graph/operands.h"
#include "harness/compare.h"
#include "ops/cases.h"
#include "reference/interpreter.h"
#include "reference/ops.h"

namespace deeplab::reference {
namespace {

using testing::near;
using Values = std::vector<double>;

constexpr double small = 1e-5;
// Truncation is of the order of small^2 times the third derivative, rounding 1e-16 / small times
// the number of terms.
constexpr double tolerance = 1e-8;

double dot(const Values& a, const Values& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

double gradient_scale(const testing::CasePlan& p) {
    for (const graph::Node& node : p.t.plan.nodes)
        if (const auto* loss = std::get_if<graph::SegmentationLoss>(&node.op))
            return static_cast<double>(loss->gradient_scale);
    return 1;
}

// d function / d x, every element; `function` reads x.
Values differences(Values& x, const std::function<double()>& function) {
    Values d;
    for (double& v : x) {
        const double at = v;
        v = at + small;
        const double above = function();
        v = at - small;
        const double below = function();
        v = at;
        d.push_back((above - below) / (2 * small));
    }
    return d;
}

class Differences : public ::testing::TestWithParam<testing::OpCase> {};

// How near an activation's input comes to a kink: the plan's inputs, where a convolution activates
// them, and the outputs of the plan without activations.
double distance_from_kinks(const testing::CasePlan& p) {
    double least = INFINITY;
    const auto look = [&](const Tensor& z) {
        for (const double v : z.data) least = std::min({least, std::abs(v), std::abs(v - 6)});
    };
    const auto* convolution = std::get_if<graph::Conv2d>(&p.t.plan.nodes.front().op);
    if (convolution != nullptr && convolution->input != graph::Activation::none) {
        const graph::TensorId x = operands(*convolution, p.t.plan.nodes.front()).x;
        for (const auto& [id, value] : p.t.given)
            if (id == x) look(value);
        return least;
    }
    graph::Plan linear = p.t.plan;
    for (graph::Node& node : linear.nodes)
        if (auto* norm = std::get_if<graph::BatchNormAct>(&node.op))
            norm->activation = graph::Activation::none;
    Interpreter run(linear, testing::case_seed);
    for (const auto& [id, value] : p.t.given) run.give(id, value);
    run.run(p.step(true), p.forward);
    for (const auto& [y, dys] : p.outputs) look(run.value(y));
    return least;
}

TEST_P(Differences, AreTheGradientsOfEveryInput) {
    const testing::CasePlan p = GetParam().plan();
    Interpreter run(p.t.plan, testing::case_seed);
    for (const auto& [id, value] : p.t.given) run.give(id, value);
    const exec::MicroBatch step = p.step(true);
    run.run(step);
    if (GetParam().family == "BatchNormAct" || GetParam().family == "Conv2d") {
        ASSERT_GT(distance_from_kinks(p), 100 * small) << "another seed keeps the kink away";
    }
    // What the gradients that come in are those of.
    const auto objective = [&] {
        run.run(step, p.forward);
        double sum = 0;
        for (const auto& [y, dys] : p.outputs) {
            if (y == p.t.plan.loss) sum += gradient_scale(p) * run.value(y).data[0];
            for (const graph::TensorId dy : dys) sum += dot(run.value(y).data, run.value(dy).data);
        }
        return sum;
    };
    for (const auto& [x, dx] : p.inputs) {
        SCOPED_TRACE(cat("input ", p.t.plan.tensor(x).name));
        const Tensor at = run.value(x);
        const Values gradient = run.value(dx).data;
        Tensor moved = at;
        const Values expected = differences(moved.data, [&] {
            run.give(x, moved);
            return objective();
        });
        run.give(x, at);
        // A batch norm's third derivative is large where the variance is small.
        const bool norm = GetParam().family == "BatchNormAct";
        EXPECT_TRUE(near(gradient, expected, norm ? 10 * tolerance : tolerance));
    }
}

std::vector<testing::OpCase> small_cases() {
    std::vector<testing::OpCase> all;
    for (const testing::OpCase& c : testing::op_cases())
        if (c.differences) all.push_back(c);
    return all;
}

INSTANTIATE_TEST_SUITE_P(Cases, Differences, ::testing::ValuesIn(small_cases()));

// Every op that has a gradient is among them.
TEST(DifferencesList, HasEveryFamily) {
    std::set<std::string> all, small_ones;
    for (const testing::OpCase& c : testing::op_cases())
        if (!c.plan().inputs.empty()) all.insert(c.family);
    for (const testing::OpCase& c : small_cases()) small_ones.insert(c.family);
    EXPECT_EQ(small_ones, all);
}

// One step is w - lr (g + wd w): the derivative of a quadratic loss with weight decay.
TEST(SgdDifferences, FirstStepFollowsTheGradient) {
    const double lr = 0.01, decay = 0.1;
    Values w = random_tensor({1, 7, 1, 1}, 1).data;
    const Values target = random_tensor({1, 7, 1, 1}, 2).data;
    const auto plain = [&] {
        double sum = 0;
        for (std::size_t i = 0; i < w.size(); ++i) sum += std::pow(w[i] - target[i], 2) / 2;
        return sum;
    };
    const auto decayed = [&] { return plain() + decay / 2 * dot(w, w); };
    const Values gradient = differences(w, plain), expected = differences(w, decayed);
    Values after = w, buffer(w.size());
    sgd(after, buffer, gradient, lr, 0.9, decay, 1);
    Values moved;
    for (std::size_t i = 0; i < w.size(); ++i) moved.push_back((w[i] - after[i]) / lr);
    EXPECT_TRUE(near(moved, expected, tolerance));
}

}  // namespace
}  // namespace deeplab::reference
