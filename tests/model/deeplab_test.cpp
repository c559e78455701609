#include "deeplab/model/deeplab.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <tuple>

#include "deeplab/base/error.h"
#include "deeplab/graph/operands.h"

namespace deeplab::model {
namespace {

std::int64_t parameters(const graph::Plan& plan) {
    std::int64_t sum = 0;
    for (const graph::Parameter& p : plan.parameters) sum += p.shape.elements();
    return sum;
}

template <class Op>
std::int64_t count(const graph::Plan& plan) {
    return std::count_if(plan.nodes.begin(), plan.nodes.end(),
                         [](const graph::Node& n) { return std::holds_alternative<Op>(n.op); });
}

// The published network: parameters, layers and work (recipe: 59,344,309; 114; 113; 555.7 GFLOP an
// image).
TEST(DeepLab, Resnet101HasThePublishedSize) {
    const graph::Plan plan = training_plan({}, {.batch = 1}, {});
    EXPECT_EQ(parameters(plan), 59'344'309);
    EXPECT_EQ(count<graph::Conv2d>(plan), 114);
    EXPECT_EQ(count<graph::BatchNormAct>(plan), 113);
    EXPECT_NEAR(graph::convolution_flops(plan) / 1e9, 555.7, 0.3);
    EXPECT_EQ(plan.tensor(plan.logits).shape, (Shape{1, 21, 129, 129}));
}

TEST(DeepLab, ForwardWorkOfResnet101) {
    EXPECT_NEAR(graph::convolution_flops(inference_plan({}, 1, 513, 513)) / 1e9, 185.6, 0.2);
}

TEST(DeepLab, NamesArePyTorchs) {
    const graph::Plan plan = inference_plan({.backbone = "resnet50"}, 1, 65, 65);
    const auto shape_of = [&](const std::string& name) {
        for (const graph::Parameter& p : plan.parameters) {
            if (p.name == name) return p.shape;
        }
        ADD_FAILURE() << name << " is missing";
        return Shape{};
    };
    EXPECT_EQ(shape_of("backbone.conv1.weight"), (Shape{64, 3, 7, 7}));
    EXPECT_EQ(shape_of("backbone.layer1.0.downsample.0.weight"), (Shape{256, 64, 1, 1}));
    EXPECT_EQ(shape_of("backbone.layer4.2.conv2.weight"), (Shape{512, 512, 3, 3}));
    EXPECT_EQ(shape_of("backbone.layer3.5.bn3.bias"), (Shape{1, 1024, 1, 1}));
    EXPECT_EQ(shape_of("aspp.branch3.conv.weight"), (Shape{256, 2048, 3, 3}));
    EXPECT_EQ(shape_of("decoder.refine1.conv.weight"), (Shape{256, 304, 3, 3}));
    EXPECT_EQ(shape_of("decoder.classifier.bias"), (Shape{1, 21, 1, 1}));
}

// arXiv 1802.02611, section 3.2, and its TensorFlow code: batch norm and ReLU behind both parts.
TEST(DeepLab, ASeparableHeadHasADepthwiseAndAOneByOneForEach3x3) {
    const graph::Plan plan = inference_plan({.separable = true}, 1, 513, 513);
    EXPECT_EQ(parameters(plan), 42'500'160 + 3'188'101);  // ResNet-101 without its classifier
    EXPECT_EQ(count<graph::Conv2d>(plan), 114 + 5);
    EXPECT_EQ(count<graph::BatchNormAct>(plan), 113 + 5);
    // Name of the depthwise part's output, rate, channels in and out of the two.
    const std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t> expected[] = {
        {"aspp.branch1", 6, 2048, 256},   {"aspp.branch2", 12, 2048, 256},
        {"aspp.branch3", 18, 2048, 256},  {"decoder.refine1", 1, 304, 256},
        {"decoder.refine2", 1, 256, 256},
    };
    for (const auto& [name, rate, in, out] : expected) {
        std::vector<std::string> parts;
        const auto named = [&](graph::TensorId tensor) { return plan.tensor(tensor).name; };
        for (const graph::Node& node : plan.nodes) {
            if (const auto* norm = std::get_if<graph::BatchNormAct>(&node.op)) {
                const auto t = graph::operands(*norm, node);
                if (!named(t.y).starts_with(name + ".")) continue;
                parts.push_back(named(t.y));
                EXPECT_EQ(norm->activation, graph::Activation::relu) << parts.back();
                EXPECT_EQ(named(t.x),
                          name + (named(t.y).ends_with("dw_bn.y") ? ".dw.y" : ".conv.y"));
            }
            const auto* convolution = std::get_if<graph::Conv2d>(&node.op);
            if (convolution == nullptr) continue;
            const auto t = graph::operands(*convolution, node);
            if (!named(t.y).starts_with(name + ".")) continue;
            parts.push_back(named(t.y));
            const Shape& w = plan.tensor(t.w).shape;
            if (named(t.y).ends_with(".dw.y")) {
                EXPECT_EQ(convolution->geometry, (graph::ConvGeometry{1, rate, rate, in}));
                EXPECT_EQ(w, (Shape{in, 1, 3, 3})) << parts.back();
            } else {
                EXPECT_EQ(named(t.x), name + ".dw_bn.y");
                EXPECT_EQ(w, (Shape{out, in, 1, 1})) << parts.back();
            }
        }
        std::sort(parts.begin(), parts.end());
        EXPECT_EQ(parts, (std::vector<std::string>{name + ".bn.y", name + ".conv.y", name + ".dw.y",
                                                   name + ".dw_bn.y"}));
    }
}

TEST(DeepLab, OutputStridesGiveTheirFeatureMaps) {
    for (const auto& [stride, size] : {std::pair{16, 33}, std::pair{8, 65}}) {
        const graph::Plan plan = inference_plan({.backbone = "resnet50", .output_stride = stride},
                                                1, 513, 513);
        bool found = false;
        for (const graph::Tensor& t : plan.tensors) {
            if (t.name == "aspp.concat") {
                found = true;
                EXPECT_EQ(t.shape, (Shape{1, 1280, size, size}));
            }
        }
        EXPECT_TRUE(found);
    }
}

TEST(DeepLab, TrainsOnAnyCropAndNumberOfClasses) {
    for (const std::int64_t size : {17, 33, 64, 97, 130}) {
        for (const int classes : {2, 4, 21, 150}) {
            const graph::Plan plan = training_plan({.backbone = "resnet18", .num_classes = classes},
                                                   {.batch = 2, .height = size, .width = size + 3},
                                                   {});
            EXPECT_EQ(plan.tensor(plan.logits).shape.c, classes);
        }
    }
}

TEST(DeepLab, TrainingAndInferenceShareTheirParameters) {
    const ModelConfig config{.backbone = "resnet50", .num_classes = 7};
    EXPECT_EQ(
        graph::parameter_hash(training_plan(config, {.batch = 2, .height = 65, .width = 65}, {})),
        graph::parameter_hash(inference_plan(config, 1, 129, 161)));
}

TEST(DeepLab, RefusesWhatItCannotBuild) {
    const TrainingOptions training{.batch = 1, .height = 65, .width = 65};
    EXPECT_THROW(training_plan({.backbone = "xception"}, training, {}), UsageError);
    EXPECT_THROW(training_plan({.output_stride = 32}, training, {}), UsageError);
    EXPECT_THROW(training_plan({.num_classes = 1}, training, {}), UsageError);
    EXPECT_THROW(training_plan({.dropout = {1.0f, 0, 0}}, training, {}), UsageError);
    EXPECT_THROW(training_plan({}, {.batch = 1, .height = 8, .width = 8}, {}), UsageError);
    EXPECT_THROW(training_plan({}, training, {.groups = {{.match = "("}}}), UsageError);
    EXPECT_THROW(training_plan({}, training, {.groups = {{.match = "^head"}}}), UsageError);
}

TEST(PaddedSize, IsTheNextThatKeepsTheGridAligned) {
    const ModelConfig os16, os8{.output_stride = 8};
    EXPECT_EQ(padded_size(os16, 513), 513);
    EXPECT_EQ(padded_size(os16, 514), 529);
    EXPECT_EQ(padded_size(os16, 500), 513);
    EXPECT_EQ(padded_size(os16, 1), 17);
    EXPECT_EQ(padded_size(os8, 500), 505);
}

// Without aligned corners no size aligns the grid.
TEST(PaddedSize, IsTheImagesOwnWithoutAlignedCorners) {
    const ModelConfig os16{.align_corners = false}, os8{.output_stride = 8, .align_corners = false};
    EXPECT_EQ(padded_size(os16, 500), 500);
    EXPECT_EQ(padded_size(os16, 3), 17);
    EXPECT_EQ(padded_size(os8, 10), 10);
    EXPECT_EQ(padded_size(os8, 3), 9);
}

// VainF's network, of whose size the sum was counted in PyTorch.
TEST(DeepLab, OneConvolutionOfTheDecoderMayBeLeftOut) {
    const ModelConfig one{.decoder_convs = 1};
    const graph::Plan plan = inference_plan(one, 1, 65, 65);
    EXPECT_EQ(parameters(plan), 58'753'973);
    EXPECT_EQ(plan.parameters.size() + plan.states.size(), 562u);
    for (const graph::Parameter& p : plan.parameters)
        EXPECT_EQ(p.name.find("refine2"), std::string::npos) << p.name;
    EXPECT_EQ(count<graph::Dropout>(training_plan(one, {.height = 65, .width = 65}, {})), 2);
    EXPECT_THROW(inference_plan({.decoder_convs = 0}, 1, 65, 65), UsageError);
    EXPECT_THROW(inference_plan({.decoder_convs = 3}, 1, 65, 65), UsageError);
}

TEST(DeepLab, AllResizesHaveTheModelsCorners) {
    for (const bool aligned : {true, false}) {
        const graph::Plan plan = training_plan(
            {.backbone = "resnet18", .width_divisor = 8, .align_corners = aligned},
            {.batch = 2, .height = 64, .width = 50}, {});
        std::int64_t resizes = 0;
        for (const graph::Node& node : plan.nodes) {
            const auto expect = [&](bool corners) {
                EXPECT_EQ(corners, aligned) << graph::name(node.op);
                ++resizes;
            };
            if (const auto* up = std::get_if<graph::Upsample>(&node.op)) expect(up->align_corners);
            if (const auto* grad = std::get_if<graph::UpsampleGrad>(&node.op))
                expect(grad->align_corners);
            if (const auto* loss = std::get_if<graph::SegmentationLoss>(&node.op))
                expect(loss->align_corners);
        }
        EXPECT_EQ(resizes, 5);
    }
}

TEST(InitialValues, AreHeNormalAndAFunctionOfSeedAndName) {
    const graph::Plan plan = inference_plan({.backbone = "resnet18"}, 1, 65, 65);
    std::vector<float> previous;
    for (const graph::Parameter& p : plan.parameters) {
        const std::vector<float> v = initial_value(p, plan, 7);
        ASSERT_EQ(static_cast<std::int64_t>(v.size()), p.shape.elements());
        EXPECT_EQ(v, initial_value(p, plan, 7));
        if (p.kind == graph::ParameterKind::conv_weight && v.size() > 10000) {
            const double mean = std::accumulate(v.begin(), v.end(), 0.0) /
                                static_cast<double>(v.size());
            double square = 0;
            for (const float x : v) square += (x - mean) * (x - mean);
            const double expected = 2.0 / static_cast<double>(p.shape.c * p.shape.h * p.shape.w);
            EXPECT_NEAR(square / static_cast<double>(v.size()) / expected, 1.0, 0.05) << p.name;
            EXPECT_NEAR(mean / std::sqrt(expected), 0.0, 0.05) << p.name;
            EXPECT_NE(v, initial_value(p, plan, 8));
            if (previous.size() == v.size()) {
                EXPECT_NE(v, previous) << p.name;
            }
            previous = v;
        }
        if (p.name == "decoder.classifier.bias") {
            for (const float x : v) EXPECT_LE(std::abs(x), 1.0f / 16.0f);
        }
    }
}

}  // namespace
}  // namespace deeplab::model
