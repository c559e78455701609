#include "convolution_problem.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "deeplab/graph/operands.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::cuda {
namespace {

graph::Plan tiny_plan() {
    model::ModelConfig model;
    model.backbone = "resnet18";
    model.num_classes = 7;
    model::TrainingOptions training;
    training.batch = 2;
    training.height = training.width = 65;
    return model::training_plan(model, training, {});
}

std::size_t count(const std::vector<ConvolutionProblem>& problems, Pass pass) {
    return static_cast<std::size_t>(
        std::count_if(problems.begin(), problems.end(),
                      [&](const ConvolutionProblem& p) { return p.pass == pass; }));
}

TEST(ConvolutionProblem, APlansConvolutionsAreCollectedOnce) {
    const graph::Plan plan = tiny_plan();
    const auto problems = convolution_problems(plan, Precision::bf16, true);
    std::set<std::string> keys;
    for (const ConvolutionProblem& p : problems) {
        keys.insert(key(p));
        EXPECT_EQ(p.x.c, p.w.c * p.geometry.groups);
        EXPECT_EQ(p.y.c, p.w.n);
        EXPECT_GE(p.x_pitch, p.x.c);
        EXPECT_EQ(p.in, DType::bf16);
        EXPECT_TRUE(p.deterministic);
        EXPECT_FALSE(p.tf32);
        EXPECT_EQ(p.bias, p.pass == Pass::forward && p.y.c == 7) << "the classifier has a bias";
    }
    EXPECT_EQ(keys.size(), problems.size());
    // Every convolution of the plan is among them; the images need no gradient.
    std::set<std::string> shapes;
    for (const graph::Node& node : plan.nodes) {
        const auto* op = std::get_if<graph::Conv2d>(&node.op);
        if (op == nullptr) continue;
        const auto t = operands(*op, node);
        shapes.insert(to_string(plan.tensor(t.x).shape) + to_string(plan.tensor(t.w).shape) +
                      std::to_string(op->geometry.dilation) + std::to_string(op->geometry.stride));
    }
    EXPECT_EQ(count(problems, Pass::forward), shapes.size());
    EXPECT_EQ(count(problems, Pass::weights), shapes.size());
    EXPECT_EQ(count(problems, Pass::data), shapes.size() - 1);
}

TEST(ConvolutionProblem, WhatChangesThePlanChangesTheKey) {
    const ConvolutionProblem base = convolution_problems(tiny_plan(), Precision::fp32, false)[3];
    std::vector<ConvolutionProblem> all(15, base);
    all[1].pass = Pass::weights;
    ++all[2].geometry.stride;
    ++all[3].geometry.pad;
    ++all[4].geometry.dilation;
    ++all[5].geometry.groups;
    ++all[6].x.n;
    ++all[7].w.h;
    ++all[8].y.w;
    ++all[9].x_pitch;
    ++all[10].y_pitch;
    all[11].in = DType::bf16;
    all[12].tf32 = true;
    all[13].deterministic = true;
    all[14].bias = true;
    std::set<std::string> keys;
    for (const ConvolutionProblem& p : all) keys.insert(key(p));
    EXPECT_EQ(keys.size(), all.size());
}

TEST(ConvolutionProblem, PrecisionDecidesTypes) {
    const graph::Plan plan = tiny_plan();
    const ConvolutionProblem fp32 = convolution_problems(plan, Precision::fp32, false).front();
    const ConvolutionProblem tf32 = convolution_problems(plan, Precision::tf32, false).front();
    EXPECT_EQ(fp32.in, DType::f32);
    EXPECT_EQ(tf32.in, DType::f32);
    EXPECT_FALSE(fp32.tf32);
    EXPECT_TRUE(tf32.tf32);
}

// A convolution that reads a slice of a concatenation steps over the whole of it.
TEST(ConvolutionProblem, ASliceHasItsRootsPitch) {
    graph::Plan plan;
    const auto tensor = [&](Shape shape, graph::TensorId parent) {
        graph::Tensor t;
        t.shape = shape;
        t.parent = parent;
        plan.tensors.push_back(t);
        return static_cast<graph::TensorId>(plan.tensors.size() - 1);
    };
    const graph::TensorId whole = tensor({1, 24, 5, 5}, graph::none);
    const graph::TensorId x = tensor({1, 8, 5, 5}, whole);
    const graph::TensorId w = tensor({4, 8, 1, 1}, graph::none);
    const graph::TensorId y = tensor({1, 4, 5, 5}, graph::none);
    plan.nodes.push_back({graph::Conv2d{}, {x, w}, {y}});
    const auto problems = convolution_problems(plan, Precision::bf16, false);
    ASSERT_EQ(problems.size(), 1u);
    EXPECT_EQ(problems[0].x_pitch, 24);
    EXPECT_EQ(problems[0].y_pitch, 4);
}

}  // namespace
}  // namespace deeplab::cuda
