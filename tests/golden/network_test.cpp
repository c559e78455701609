// A narrow DeepLabV3+ from kink-free weights against PyTorch in double precision (network_*.h5,
// rates_*.h5), and the names and shapes of the full one (names.txt).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/model/deeplab.h"
#include "golden/fixture.h"
#include "harness/compare.h"
#include "harness/device.h"

namespace deeplab::testing {
namespace {

double norm(const std::vector<float>& values) {
    double squares = 0;
    for (const float v : values) squares += static_cast<double>(v) * static_cast<double>(v);
    return std::sqrt(squares);
}

class GoldenNetwork : public ::testing::TestWithParam<const char*> {
protected:
    const Fixture fixture_{std::string(GetParam()) + ".h5"};
    const std::int64_t batch_ = fixture_.attribute("batch"), height_ = fixture_.attribute("height"),
                       width_ = fixture_.attribute("width");
    const model::ModelConfig config_ = {
        .backbone = fixture_.file().attribute_text("backbone"),
        .output_stride = fixture_.attribute("output_stride"),
        .num_classes = fixture_.attribute("num_classes"),
        .dropout = {0, 0, 0},
        .width_divisor = fixture_.attribute("width_divisor"),
        .separable = has("separable"),
        .dilation = has("dilation") ? model::Dilation::layer : model::Dilation::uniform};
    const graph::Plan plan_ = model::training_plan(
        config_,
        {.batch = batch_,
         .height = height_,
         .width = width_,
         .bucket_bytes = 1 << 16,
         .keep_logits = true},
        {.momentum = 0.9f,
         .weight_decay = 0.1f,
         .groups = {{"^(aspp|decoder)\\.", 10.0f, 0.3f, fixture_.attribute("head_steps")}}});
    const std::unique_ptr<exec::Backend> backend_ = device(2);
    const std::unique_ptr<comm::Communicator> gradients_ = comm::make_self(),
                                              batch_norm_ = comm::make_self();
    std::vector<float> images_;
    std::vector<std::uint8_t> labels_;

    // The fixtures that have it have it so.
    bool has(const char* attribute) const { return fixture_.file().has_attribute(attribute); }

    void SetUp() override {
        backend_->allocate(plan_);
        std::map<std::string, std::vector<float>> all;
        for (const graph::Parameter& p : plan_.parameters) {
            all[p.name] = kink_free_value(p.name, p.shape);
            backend_->upload(p, exec::Slot::value, all[p.name]);
        }
        for (const graph::State& s : plan_.states) {
            all[s.name] = kink_free_value(s.name, s.shape);
            backend_->upload(s, all[s.name]);
        }
        std::uint32_t crc = 0;
        for (const auto& [name, values] : all) {
            std::vector<unsigned char> bytes(values.size() * sizeof(float));
            std::memcpy(bytes.data(), values.data(), bytes.size());
            crc = crc32(bytes, crc);
        }
        ASSERT_EQ(static_cast<std::int64_t>(crc), fixture_.file().attribute_int("crc32"))
            << "kink_free_value() is not formulas.py's";
    }

    std::unique_ptr<exec::Executable> compile(const graph::Plan& plan) {
        return backend_->compile(plan, {gradients_.get(), batch_norm_.get()}, {.poison = true});
    }

    exec::MicroBatch step(std::uint64_t number) {
        images_ = images(batch_, height_, width_, 100 + number);
        labels_ = random_labels(static_cast<std::size_t>(batch_ * height_ * width_),
                                static_cast<std::uint32_t>(config_.num_classes), 0.7, 200 + number);
        exec::MicroBatch s;
        s.images = images_;
        s.labels = labels_;
        s.learning_rate = 1e-4;
        s.valid_pixels = static_cast<double>(
            std::count_if(labels_.begin(), labels_.end(), [](auto label) { return label != 255; }));
        return s;
    }
};

using GoldenInference = GoldenNetwork;

TEST_P(GoldenInference, Logits) {
    const graph::Plan plan = model::inference_plan(config_, batch_, height_, width_);
    const auto executable = compile(plan);
    exec::MicroBatch s = step(0);
    s.labels = {};
    executable->run(s);
    EXPECT_TRUE(near(executable->download(plan.logits), fixture_.floats("eval_logits"), 1e-5));
}

TEST_P(GoldenNetwork, LogitsGradientsAndRunningStatistics) {
    const auto executable = compile(plan_);
    const exec::MicroBatch s = step(0);
    const exec::MicroBatchResult result = executable->run(s);
    EXPECT_TRUE(near(executable->download(plan_.logits), fixture_.floats("logits"), 1e-5));
    const double loss = static_cast<double>(fixture_.floats("losses")[0]);
    EXPECT_NEAR(result.loss_sum / s.valid_pixels, loss, 1e-5 * loss);

    double largest = 0;
    for (const std::string& name : fixture_.list("gradients"))
        largest = std::max(largest, norm(fixture_.floats("gradients/" + name)));
    EXPECT_GT(largest, 0);
    EXPECT_EQ(fixture_.list("gradients").size(), plan_.parameters.size());
    // The backend's gradients are of the sum over pixels, scaled; Update divides that out.
    double scale = 0, worst = 0;
    for (const graph::Node& node : plan_.nodes) {
        if (const auto* head = std::get_if<graph::SegmentationLoss>(&node.op))
            scale = static_cast<double>(head->gradient_scale) * s.valid_pixels;
    }
    for (const graph::Parameter& p : plan_.parameters) {
        const std::vector<float> expected = fixture_.floats("gradients/" + p.name);
        std::vector<float> difference = backend_->download(p, exec::Slot::gradient);
        ASSERT_EQ(difference.size(), expected.size()) << p.name;
        for (std::size_t i = 0; i < expected.size(); ++i) {
            difference[i] = static_cast<float>(static_cast<double>(difference[i]) / scale -
                                               static_cast<double>(expected[i]));
        }
        // 1e-5 of the largest: a hundred times finer than needed, as these weights allow.
        const double error = norm(difference) / std::max(norm(expected), 1e-5 * largest);
        // Behind MobileNetV2's last shift a batch norm takes it out: its gradient is zero but for
        // rounding, of which PyTorch's own float32 has 5e-3 there.
        EXPECT_LE(error, p.name == "backbone.features.17.conv.3.bias" ? 1e-2 : 1e-3) << p.name;
        worst = std::max(worst, error);
    }
    std::printf("gradients agree to %.1e\n", worst);
    EXPECT_EQ(fixture_.list("states").size(), plan_.states.size());
    for (const graph::State& state : plan_.states) {
        EXPECT_TRUE(near(backend_->download(state), fixture_.floats("states/" + state.name), 1e-5))
            << state.name;
    }
}

TEST_P(GoldenNetwork, TenLosses) {
    const auto executable = compile(plan_);
    const std::vector<float> expected = fixture_.floats("losses");
    ASSERT_EQ(expected.size(), 10u);
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const exec::MicroBatch s = step(i);
        const double loss = static_cast<double>(expected[i]);
        EXPECT_NEAR(executable->run(s).loss_sum / s.valid_pixels, loss, 1e-4 * loss) << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenNetwork,
                         ::testing::Values("network_r50_os16_65x65", "network_r18_os8_97x65",
                                           "network_mv2_os16_65x65", "network_x41_os8_65x49"));
INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenInference,
                         ::testing::Values("network_r50_os16_65x65", "network_r18_os8_97x65",
                                           "network_mv2_os16_65x65", "network_x41_os8_65x49",
                                           "rates_r18_os16_33x321", "rates_r18_os8_33x321",
                                           "rates_r18_separable_os16_33x321",
                                           "rates_mv2_uniform_os8_33x321",
                                           "rates_x71_uniform_os16_33x161"));

TEST(GoldenNames, AreThoseOfTheModule) {
    std::vector<std::string> expected = split(
        trim(read_text(source_dir() / "tests/golden/names.txt")), '\n');
    std::vector<std::string> actual;
    const auto add = [&](const std::string& backbone, const model::ModelConfig& config) {
        const graph::Plan plan = model::inference_plan(config, 1, 65, 65);
        for (const graph::Parameter& p : plan.parameters) {
            const Shape& s = p.shape;
            actual.push_back(
                p.kind == graph::ParameterKind::conv_weight
                    ? cat(backbone, " ", p.name, " ", s.n, " ", s.c, " ", s.h, " ", s.w)
                    : cat(backbone, " ", p.name, " ", s.c));
        }
        for (const graph::State& s : plan.states)
            actual.push_back(cat(backbone, " ", s.name, " ", s.shape.c));
    };
    for (const std::string& backbone : model::backbone_names())
        add(backbone, {.backbone = backbone});
    add("resnet18,separable", {.backbone = "resnet18", .separable = true});
    std::sort(actual.begin(), actual.end());
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(actual, expected);
}

}  // namespace
}  // namespace deeplab::testing
