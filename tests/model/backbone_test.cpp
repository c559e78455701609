#include "deeplab/model/backbone.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

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

TEST(Backbones, HaveNamesOfTheirOwn) {
    const std::vector<std::string> names = backbone_names();
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
    std::set<std::vector<std::string>> marks;
    for (const BackboneFamily& family : backbone_families()) {
        for (const ForeignNames& foreign : family.foreign) {
            EXPECT_FALSE(foreign.marks.empty()) << foreign.whose;
            EXPECT_FALSE(foreign.classifier.empty()) << foreign.whose;
            EXPECT_TRUE(marks.insert(foreign.marks).second) << foreign.whose;
        }
    }
}

}  // namespace
}  // namespace deeplab::model
