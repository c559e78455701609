#include "deeplab/model/backbone.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/graph/operands.h"
#include "harness/messages.h"

namespace deeplab::model {
namespace {

constexpr std::string_view place = "backbone.";

// What a file of this network has of its backbone.
TensorExtents tensors_of(const ModelConfig& config) {
    const graph::Plan plan = inference_plan(config, 1, 33, 33);
    TensorExtents tensors;
    for (const graph::Parameter& p : plan.parameters) {
        if (!p.name.starts_with(place)) continue;
        const bool four = p.kind == graph::ParameterKind::conv_weight;
        tensors[p.name.substr(place.size())] = four
                                                   ? std::vector<std::int64_t>{p.shape.n, p.shape.c,
                                                                               p.shape.h, p.shape.w}
                                                   : std::vector<std::int64_t>{p.shape.c};
    }
    for (const graph::State& s : plan.states) {
        if (s.name.starts_with(place)) tensors[s.name.substr(place.size())] = {s.shape.c};
    }
    return tensors;
}

TEST(Backbones, AreRecognisedByTheirTensors) {
    for (const std::string& name : backbone_names()) {
        for (const int divisor : {1, 4}) {
            const TensorExtents tensors = tensors_of(
                {.backbone = name, .dropout = {}, .width_divisor = divisor});
            const BackboneFamily& family = family_of(name);
            const Recognised found = family.recognise(tensors);
            EXPECT_EQ(found.name, name) << found.text;
            EXPECT_EQ(found.width_divisor, divisor) << name;
            // The stem tells the family.
            for (const BackboneFamily& other : backbone_families()) {
                EXPECT_EQ(tensors.contains(other.stem), &other == &family) << name;
            }
        }
    }
}

std::int64_t elements(const graph::Plan& plan, std::string_view beginning) {
    std::int64_t sum = 0;
    for (const graph::Parameter& p : plan.parameters)
        if (p.name.starts_with(beginning)) sum += p.shape.elements();
    return sum;
}

template <class Op>
std::int64_t count(const graph::Plan& plan) {
    return std::count_if(plan.nodes.begin(), plan.nodes.end(),
                         [](const graph::Node& n) { return std::holds_alternative<Op>(n.op); });
}

// Counted in torchvision's and timm's modules, and in whole networks made of them.
TEST(Backbones, HaveThePublishedSizes) {
    struct Size {
        std::string name;
        std::int64_t backbone, network, convolutions;  // of the network with a separable head
    };
    for (const Size& size : {Size{"mobilenet_v2", 1'811'712, 2'719'813, 66},
                             Size{"xception41", 24'920'560, 28'108'661, 99},
                             Size{"xception65", 37'867'312, 41'055'413, 147},
                             Size{"xception71", 40'289'736, 43'477'837, 161}}) {
        const ModelConfig config{
            .backbone = size.name, .separable = true, .dilation = Dilation::layer};
        const graph::Plan plan = inference_plan(config, 1, 513, 513);
        EXPECT_EQ(elements(plan, place), size.backbone) << size.name;
        EXPECT_EQ(elements(plan, ""), size.network) << size.name;
        EXPECT_EQ(count<graph::Conv2d>(plan), size.convolutions) << size.name;
        EXPECT_EQ(count<graph::BatchNormAct>(plan), size.convolutions - 1) << size.name;
    }
}

// Of every depthwise convolution of the backbone: stride and dilation, in order.
std::vector<std::pair<std::int64_t, std::int64_t>> depthwise(const std::string& name,
                                                             int output_stride, Dilation rule) {
    graph::Builder b(graph::Mode::inference);
    const graph::TensorId images = b.images({1, 3, 65, 65});
    const ModelConfig config{
        .backbone = name, .output_stride = output_stride, .width_divisor = 8, .dilation = rule};
    b.keep(family_of(name).build(b, images, config).high);
    const graph::Plan plan = b.inference_plan();
    std::vector<std::pair<std::int64_t, std::int64_t>> found;
    for (const graph::Node& node : plan.nodes) {
        const auto* op = std::get_if<graph::Conv2d>(&node.op);
        if (op == nullptr || op->geometry.groups == 1) continue;
        EXPECT_EQ(op->geometry.pad, op->geometry.dilation);
        found.emplace_back(op->geometry.stride, op->geometry.dilation);
    }
    return found;
}

using Layers = std::vector<std::pair<std::int64_t, std::int64_t>>;

// TensorFlow's rule, as its code, VainF's and timm's have it.
TEST(Backbones, MobileNetV2GivesUpItsStridesLayerByLayer) {
    const auto layers = [](const Layers& from_seventh) {
        Layers all = {{1, 1}, {2, 1}, {1, 1}, {2, 1}, {1, 1}, {1, 1}};
        all.insert(all.end(), from_seventh.begin(), from_seventh.end());
        return all;
    };
    const std::pair<std::int64_t, std::int64_t> plain{1, 1}, strided{2, 1}, two{1, 2}, four{1, 4};
    EXPECT_EQ(
        depthwise("mobilenet_v2", 32, Dilation::layer),
        layers({strided, plain, plain, plain, plain, plain, plain, strided, plain, plain, plain}));
    EXPECT_EQ(depthwise("mobilenet_v2", 16, Dilation::layer),
              layers({strided, plain, plain, plain, plain, plain, plain, plain, two, two, two}));
    EXPECT_EQ(depthwise("mobilenet_v2", 8, Dilation::layer),
              layers({plain, two, two, two, two, two, two, two, four, four, four}));
    EXPECT_EQ(depthwise("mobilenet_v2", 16, Dilation::uniform),
              layers({strided, plain, plain, plain, plain, plain, plain, two, two, two, two}));
    EXPECT_EQ(depthwise("mobilenet_v2", 8, Dilation::uniform),
              layers({two, two, two, two, two, two, two, four, four, four, four}));
}

TEST(Backbones, XceptionGivesUpItsStridesUnitByUnit) {
    // Of a unit the third has the stride, and all three its rate.
    const auto of_units = [](const Layers& units) {
        Layers all;
        for (const auto& [stride, rate] : units)
            all.insert(all.end(), {{1, rate}, {1, rate}, {stride, rate}});
        return all;
    };
    const auto xception41 = [&](std::pair<std::int64_t, std::int64_t> third, std::int64_t middle,
                                std::pair<std::int64_t, std::int64_t> exit, std::int64_t last) {
        Layers units = {{2, 1}, {2, 1}, third};
        units.insert(units.end(), 8, {1, middle});
        units.insert(units.end(), {exit, {1, last}});
        return of_units(units);
    };
    EXPECT_EQ(depthwise("xception41", 32, Dilation::layer), xception41({2, 1}, 1, {2, 1}, 1));
    EXPECT_EQ(depthwise("xception41", 16, Dilation::layer), xception41({2, 1}, 1, {1, 1}, 2));
    EXPECT_EQ(depthwise("xception41", 8, Dilation::layer), xception41({1, 1}, 2, {1, 2}, 4));
    EXPECT_EQ(depthwise("xception41", 16, Dilation::uniform), xception41({2, 1}, 1, {1, 2}, 2));
    Layers units = {{2, 1}, {1, 1}, {2, 1}, {1, 1}, {1, 1}};
    units.insert(units.end(), 16, {1, 2});
    units.insert(units.end(), {{1, 2}, {1, 4}});
    EXPECT_EQ(depthwise("xception71", 8, Dilation::layer), of_units(units));
}

// Of every 3x3 of layer3 and layer4: stride and dilation, in order.
Layers last_stages(const std::string& name, int output_stride, Dilation rule) {
    const graph::Plan plan = inference_plan(
        {.backbone = name, .output_stride = output_stride, .width_divisor = 8, .dilation = rule}, 1,
        65, 65);
    Layers found;
    for (const graph::Node& node : plan.nodes) {
        const auto* op = std::get_if<graph::Conv2d>(&node.op);
        if (op == nullptr) continue;
        const graph::TensorId w = graph::operands(*op, node).w;
        const std::string& layer = plan.tensor(w).name;
        if (plan.tensor(w).shape.h != 3 ||
            (!layer.starts_with("backbone.layer3.") && !layer.starts_with("backbone.layer4.")))
            continue;
        EXPECT_EQ(op->geometry.pad, op->geometry.dilation);
        found.emplace_back(op->geometry.stride, op->geometry.dilation);
    }
    return found;
}

// torchvision's replace_stride_with_dilation, and the multi-grid of arXiv 1706.05587.
TEST(Backbones, AResNetIsDilatedByThreeRules) {
    const auto stages = [](std::pair<std::int64_t, std::int64_t> first, std::int64_t third,
                           const std::vector<std::int64_t>& fourth) {
        Layers all = {first};
        all.insert(all.end(), 5, {1, third});
        for (const std::int64_t dilation : fourth) all.emplace_back(1, dilation);
        return all;
    };
    const std::pair<std::int64_t, std::int64_t> strided{2, 1};
    EXPECT_EQ(last_stages("resnet50", 16, Dilation::uniform), stages(strided, 1, {2, 2, 2}));
    EXPECT_EQ(last_stages("resnet50", 16, Dilation::torchvision), stages(strided, 1, {1, 2, 2}));
    EXPECT_EQ(last_stages("resnet50", 16, Dilation::multigrid), stages(strided, 1, {2, 4, 8}));
    EXPECT_EQ(last_stages("resnet50", 8, Dilation::uniform), stages({1, 2}, 2, {4, 4, 4}));
    EXPECT_EQ(last_stages("resnet50", 8, Dilation::torchvision), stages({1, 1}, 2, {2, 4, 4}));
    EXPECT_EQ(last_stages("resnet50", 8, Dilation::multigrid), stages({1, 2}, 2, {4, 8, 16}));
    // Both 3x3 of a basic block have the block's rate.
    EXPECT_EQ(last_stages("resnet18", 16, Dilation::multigrid),
              (Layers{{2, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 2}, {1, 2}, {1, 4}, {1, 4}}));
}

TEST(Backbones, RulesOfDilationAreOfTheirFamilies) {
    const auto refused = [](const std::string& backbone, Dilation rule) {
        return testing::message_of<UsageError>([&] {
            inference_plan({.backbone = backbone, .width_divisor = 8, .dilation = rule}, 1, 65, 65);
        });
    };
    EXPECT_THAT(
        refused("resnet50", Dilation::layer),
        ::testing::AllOf(
            ::testing::HasSubstr("model.dilation is \"layer\", and the backbone is resnet50"),
            ::testing::HasSubstr("use one of uniform, torchvision, multigrid")));
    for (const Dilation rule : {Dilation::torchvision, Dilation::multigrid}) {
        EXPECT_THAT(refused("mobilenet_v2", rule),
                    ::testing::HasSubstr("use one of layer, uniform"));
        EXPECT_THAT(refused("xception41", rule), ::testing::HasSubstr(name(rule)));
    }
}

// The decoder of an Xception takes what stands before a ReLU, whose other reader has it.
TEST(Backbones, XceptionIsTappedBeforeItsRelu) {
    for (const auto& [name, tap] :
         {std::pair{"xception65", "blocks.1"}, {"xception71", "blocks.2"}}) {
        const graph::Plan plan = inference_plan(
            {.backbone = name, .width_divisor = 8, .dilation = Dilation::layer}, 1, 65, 65);
        int activated_inputs = 0;
        std::string low;
        for (const graph::Node& node : plan.nodes) {
            const auto* op = std::get_if<graph::Conv2d>(&node.op);
            if (op == nullptr) continue;
            activated_inputs += op->input == graph::Activation::relu ? 1 : 0;
            const auto t = graph::operands(*op, node);
            if (plan.tensor(t.y).name == "decoder.low.conv.y") low = plan.tensor(t.x).name;
        }
        EXPECT_EQ(low, std::string("backbone.") + tap + ".stack.conv2.bn_pw.y");
        // Sums: into every unit but the first and the last; and the tap's.
        EXPECT_EQ(activated_inputs, (std::string(name) == "xception65" ? 19 : 21) + 1);
    }
}

TEST(Backbones, HaveNamesOfTheirOwn) {
    const std::vector<std::string> names = backbone_names();
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
    std::set<std::vector<std::string>> marks;
    for (const BackboneFamily& family : backbone_families()) {
        for (const ForeignNames& foreign : family.foreign) {
            EXPECT_FALSE(foreign.marks.empty()) << foreign.whose;
            EXPECT_FALSE(foreign.left_out.empty()) << foreign.whose;
            EXPECT_TRUE(marks.insert(foreign.marks).second) << foreign.whose;
        }
    }
}

}  // namespace
}  // namespace deeplab::model
