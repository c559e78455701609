// The files of jobs/configs as the optimizer sees them: what every single parameter gets.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/config/config.h"
#include "deeplab/model/deeplab.h"
#include "harness/source_dir.h"

namespace deeplab::config {
namespace {

using graph::Parameter;
using graph::ParameterKind;

std::filesystem::path preset(const std::string& name) {
    return testing::source_dir() / "jobs/configs" / (name + ".toml");
}

graph::Plan plan_of(const Config& c) {
    const auto& o = c.optimizer;
    model::ModelConfig network = c.model;
    network.num_classes = 21;
    const data::CropSize& crop = c.data.augmentation.crop;
    return model::training_plan(
        network,
        {.batch = 1, .height = crop.height, .width = crop.width, .freeze_bn = c.train.freeze_bn},
        {.momentum = static_cast<float>(o.momentum),
         .weight_decay = static_cast<float>(o.weight_decay),
         .clip_norm = static_cast<float>(o.clip_norm),
         .groups = o.groups,
         .accumulate_decay = o.accumulate_decay});
}

struct Treatment {
    double lr_multiplier = 1, weight_decay = 4e-5;
    int steps = 1;
};

bool starts_with_any(const std::string& name, const std::vector<std::string>& beginnings) {
    for (const std::string& b : beginnings) {
        if (name.starts_with(b)) return true;
    }
    return false;
}

bool is_head(const Parameter& p) { return starts_with_any(p.name, {"aspp.", "decoder."}); }

// Every parameter lies in one segment with the treatment that `expected` names; at most one group
// claims it, and `unclaimed` of them none.
void expect_treatment(const Config& config, int unclaimed,
                      const std::function<Treatment(const Parameter&)>& expected) {
    const graph::Plan plan = plan_of(config);
    int none = 0;
    for (const Parameter& p : plan.parameters) {
        const Treatment wanted = expected(p);
        int segments = 0, groups = 0;
        for (const graph::UpdateSegment& s : plan.update.segments) {
            if (p.offset < s.offset || p.offset >= s.offset + s.count) continue;
            ++segments;
            EXPECT_LE(p.offset + p.shape.elements(), s.offset + s.count) << p.name;
            EXPECT_EQ(s.lr_multiplier, static_cast<float>(wanted.lr_multiplier)) << p.name;
            EXPECT_EQ(s.weight_decay, static_cast<float>(wanted.weight_decay)) << p.name;
            EXPECT_EQ(s.steps, wanted.steps) << p.name;
        }
        EXPECT_EQ(segments, 1) << p.name;
        for (const auto& group : config.optimizer.groups)
            groups += std::regex_search(p.name, std::regex(group.match)) ? 1 : 0;
        EXPECT_LE(groups, 1) << p.name;
        none += groups == 0 ? 1 : 0;
    }
    EXPECT_EQ(none, unclaimed);
    EXPECT_EQ(plan.update.momentum, 0.9f);
    EXPECT_EQ(plan.update.accumulate_decay, config.optimizer.accumulate_decay);
}

// What recipes and reference have in common.
void expect_voc(const Config& c, const std::string& backbone) {
    EXPECT_EQ(c.model.backbone, backbone);
    EXPECT_EQ(c.data.train_split, "train_aug");
    EXPECT_EQ(c.data.val_split, "val");
    EXPECT_EQ(c.data.augmentation.crop, 513);
    EXPECT_EQ(c.data.augmentation.flip, 0.5);
    EXPECT_TRUE(c.data.augmentation.random_crop);
    EXPECT_EQ(c.train.iterations, 30000);
    EXPECT_EQ(c.train.global_batch, 16);
    EXPECT_EQ(c.train.sync_bn, SyncBn::global);
    EXPECT_EQ(c.optimizer.power, 0.9);
    EXPECT_EQ(c.optimizer.warmup, 0);
    EXPECT_EQ(c.optimizer.clip_norm, 0);
    EXPECT_EQ(c.model.bn_eps, 1e-5f);
}

void expect_reference_data(const Config& c) {
    const data::Augmentation& a = c.data.augmentation;
    EXPECT_EQ(a.resize, data::Augmentation::Resize::short_edge);
    EXPECT_EQ(a.range_low, 256);
    EXPECT_EQ(a.range_high, 1026);
    EXPECT_EQ(a.blur, 0.5);
    EXPECT_EQ(a.pad_label, data::Augmentation::PadLabel::background);
    EXPECT_EQ(a.pad_color, (std::array<std::uint8_t, 3>{0, 0, 0}));
    EXPECT_EQ(c.model.dropout, (std::array<float, 3>{0.5f, 0.5f, 0.1f}));
    EXPECT_EQ(c.model.bn_momentum, 0.1f);
    EXPECT_EQ(c.optimizer.weight_decay, 4e-5);
}

// Parameters of the network: 114 convolution weights, 113 batch norms, a bias.
constexpr int in_backbone = 104 + 2 * 104, in_head = 10 + 2 * 9 + 1;

TEST(Presets, AllFilesLoadAndMakeAPlan) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(preset("x").parent_path())) {
        if (entry.path().extension() != ".toml") continue;  // README.md
        // Files of classes lie there too.
        if (read_text(entry.path()).find("\n[[class]]") != std::string::npos) continue;
        const Config config = load_config(entry.path(), {});
        EXPECT_GT(plan_of(config).parameter_count, 0) << entry.path();
        names.insert(entry.path().stem());
    }
    for (const char* name : {"voc_r101_reference", "voc_r101_reference_effective", "voc_r101_paper",
                             "voc_r101_os8_finetune", "quickstart_cpu", "voc_mobilenet_v2",
                             "voc_xception65", "voc_xception65_os8"})
        EXPECT_TRUE(names.contains(name)) << name;
}

TEST(Presets, Reference) {
    const Config c = load_config(preset("voc_r101_reference"), {});
    expect_voc(c, "resnet101");
    expect_reference_data(c);
    EXPECT_EQ(c.model.output_stride, 16);
    EXPECT_EQ(c.optimizer.lr, 0.007);
    EXPECT_FALSE(c.train.freeze_bn);
    EXPECT_FALSE(c.optimizer.accumulate_decay);
    expect_treatment(c, in_backbone, [](const Parameter& p) {
        return Treatment{.lr_multiplier = is_head(p) ? 10.0 : 1.0};
    });
}

// Modules of the reference that enclose a parameter and that its optimizer's groups name:
// Resnet101, .layerN, .layerN.I, .convN (, .downsample before .0); encoder, .ASPP, a branch, .0.
TEST(Presets, ReferenceEffectiveStepsAsOftenAsParametersWereListed) {
    const Config c = load_config(preset("voc_r101_reference_effective"), {});
    expect_voc(c, "resnet101");
    expect_reference_data(c);
    EXPECT_TRUE(c.optimizer.accumulate_decay);
    std::map<int, int> parameters;  // by steps
    expect_treatment(c, 0, [&](const Parameter& p) {
        Treatment t;
        t.lr_multiplier = is_head(p) ? 10 : 1;
        if (p.name.starts_with("backbone.layer")) {
            t.steps = p.name.find(".downsample.") != std::string::npos ? 5 : 4;
        } else if (starts_with_any(p.name, {"aspp.branch", "aspp.pool."})) {
            t.steps = 4;
        } else {
            t.steps = 2;  // stem, projection, decoder
        }
        ++parameters[t.steps];
        return t;
    });
    // 33 bottlenecks of 3 convolutions with batch norm and 5 ASPP branches; 4 shortcuts; stem,
    // projection, low-level and 2 x 3x3 with batch norm, classifier weight and bias.
    EXPECT_EQ(parameters, (std::map<int, int>{{2, 5 * 3 + 2}, {4, 33 * 9 + 5 * 3}, {5, 4 * 3}}));

    // Nothing else differs from the recipe as documented.
    EXPECT_EQ(frozen_differences(load_config(preset("voc_r101_reference"), {}), c),
              (std::vector<std::string>{"optimizer.accumulate_decay", "optimizer.groups"}));
}

// The paper's and its TensorFlow code's.
void expect_paper(const Config& c) {
    const data::Augmentation& a = c.data.augmentation;
    EXPECT_EQ(a.resize, data::Augmentation::Resize::factor);
    EXPECT_EQ(a.range_low, 0.5);
    EXPECT_EQ(a.range_high, 2.0);
    EXPECT_EQ(a.step, 0.25);
    EXPECT_EQ(a.blur, 0);
    EXPECT_EQ(a.pad_label, data::Augmentation::PadLabel::ignore);
    for (std::size_t i = 0; i < 3; ++i)  // the mean pixel
        EXPECT_EQ(a.pad_color[i], static_cast<std::uint8_t>(255 * c.model.mean[i] + 0.5f));
    EXPECT_EQ(c.model.dropout, (std::array<float, 3>{0.1f, 0, 0}));
}

TEST(Presets, Paper) {
    const Config c = load_config(preset("voc_r101_paper"), {});
    expect_voc(c, "resnet101");
    expect_paper(c);
    EXPECT_EQ(c.model.mean, data::Normalisation{}.mean);
    EXPECT_EQ(c.model.output_stride, 16);
    EXPECT_NEAR(c.model.bn_momentum, 1 - 0.9997, 1e-9);
    EXPECT_EQ(c.optimizer.lr, 0.007);
    EXPECT_FALSE(c.train.freeze_bn);
    expect_treatment(c, 114, [](const Parameter& p) {
        if (p.kind == ParameterKind::conv_weight) return Treatment{};
        if (p.kind == ParameterKind::bias) return Treatment{.lr_multiplier = 2, .weight_decay = 0};
        return Treatment{.weight_decay = 0};
    });
}

// Decay on full convolutions alone, the bias at twice the rate: as many parameters have a group's
// settings as the network has batch norms and depthwise convolutions.
void expect_separable(const Config& c, int full_convolutions) {
    expect_paper(c);
    EXPECT_TRUE(c.model.separable);
    EXPECT_EQ(c.model.dilation, model::Dilation::layer);
    expect_treatment(c, full_convolutions, [](const Parameter& p) {
        if (p.kind == ParameterKind::bias) return Treatment{.lr_multiplier = 2, .weight_decay = 0};
        const bool full = p.kind == ParameterKind::conv_weight && p.shape.c > 1;
        return Treatment{.weight_decay = full ? 4e-5 : 0};
    });
}

TEST(Presets, MobileNetV2) {
    const Config c = load_config(preset("voc_mobilenet_v2"), {});
    expect_voc(c, "mobilenet_v2");
    EXPECT_EQ(c.model.output_stride, 16);
    EXPECT_NEAR(c.model.bn_momentum, 1 - 0.997, 1e-8);
    EXPECT_EQ(c.model.mean, data::Normalisation{}.mean) << "torchvision's weights";
    EXPECT_EQ(c.optimizer.lr, 0.007);
    expect_separable(c, 66 - 17 - 5);  // of 66 convolutions 17 and 5 are depthwise
}

TEST(Presets, Xception65) {
    const Config c = load_config(preset("voc_xception65"), {});
    expect_voc(c, "xception65");
    EXPECT_EQ(c.model.output_stride, 16);
    EXPECT_NEAR(c.model.bn_momentum, 1 - 0.9997, 1e-9);
    EXPECT_EQ(c.model.mean, (std::array<float, 3>{0.5f, 0.5f, 0.5f}));
    EXPECT_EQ(c.model.std, c.model.mean);
    EXPECT_EQ(c.optimizer.lr, 0.007);
    expect_separable(c, 147 - 63 - 5);  // 21 units of three

    const Config eight = load_config(preset("voc_xception65_os8"), {});
    EXPECT_EQ(eight.model.output_stride, 8);
    EXPECT_EQ(eight.optimizer.lr, 0.001);
    EXPECT_TRUE(eight.train.freeze_bn);
    // Its weights are the other one's: nothing that tells networks apart differs.
    EXPECT_EQ(frozen_differences(c, eight),
              (std::vector<std::string>{"model.output_stride", "train.freeze_bn", "optimizer.lr"}));
    expect_separable(eight, 147 - 63 - 5);
}

TEST(Presets, Os8Finetune) {
    const Config c = load_config(preset("voc_r101_os8_finetune"), {});
    expect_voc(c, "resnet101");
    expect_reference_data(c);
    EXPECT_EQ(c.model.output_stride, 8);
    EXPECT_TRUE(c.train.freeze_bn);
    EXPECT_EQ(c.optimizer.lr, 0.001);
    expect_treatment(c, in_backbone, [](const Parameter& p) {
        return Treatment{.lr_multiplier = is_head(p) ? 10.0 : 1.0};
    });
    static_assert(in_backbone + in_head == 114 + 2 * 113 + 1);
}

}  // namespace
}  // namespace deeplab::config
