// MobileNetV2 and the Xceptions at full width against torchvision's and timm's own code in double
// precision (features.h5, by make_features.py): the same weights by name, at output stride 32 as
// they come, and at 16 and 8 with TensorFlow's dilations.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <tuple>

#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/graph/builder.h"
#include "deeplab/model/backbone.h"
#include "golden/fixture.h"
#include "harness/compare.h"
#include "harness/device.h"

namespace deeplab::testing {
namespace {

class GoldenFeatures : public ::testing::TestWithParam<std::tuple<std::string, int>> {
protected:
    // Every so manieth channel, as many as the fixture has.
    static std::vector<float> some_channels(const std::vector<float>& all, const Shape& shape,
                                            std::int64_t wanted) {
        const std::int64_t every = std::max<std::int64_t>(shape.c / wanted, 1);
        const auto plane = static_cast<std::size_t>(shape.h * shape.w);
        std::vector<float> some;
        for (std::int64_t c = 0; c < shape.c; c += every) {
            const auto begin = all.begin() +
                               static_cast<std::ptrdiff_t>(c) * static_cast<std::ptrdiff_t>(plane);
            some.insert(some.end(), begin, begin + static_cast<std::ptrdiff_t>(plane));
        }
        return some;
    }
};

TEST_P(GoldenFeatures, AreThoseOfTheOriginal_Slow) {
    const auto [backbone, output_stride] = GetParam();
    const Fixture fixture("features.h5");
    const std::int64_t height = fixture.attribute("height"), width = fixture.attribute("width");
    const model::BackboneFamily& family = model::family_of(backbone);
    graph::Builder builder(graph::Mode::inference);
    builder.set_batch_norm({.eps = family.bn_eps.value_or(1e-5f)});
    const graph::TensorId input = builder.images({1, 3, height, width});
    // The stride is the backbone's own matter: a whole network has 8 or 16.
    const model::Features features = family.build(
        builder, input,
        {.backbone = backbone, .output_stride = output_stride, .dilation = model::Dilation::layer});
    builder.keep(features.low);
    builder.keep(features.high);
    const graph::Plan plan = builder.inference_plan();

    const auto backend = device(2);
    const auto gradients = comm::make_self(), batch_norm = comm::make_self();
    backend->allocate(plan);
    for (const graph::Parameter& p : plan.parameters)
        backend->upload(p, exec::Slot::value, kink_free_value(p.name, p.shape));
    for (const graph::State& s : plan.states) backend->upload(s, kink_free_value(s.name, s.shape));
    const auto executable = backend->compile(plan, {gradients.get(), batch_norm.get()},
                                             {.poison = true});
    const std::vector<float> pixels = images(1, height, width,
                                             static_cast<std::uint64_t>(fixture.attribute("seed")));
    exec::MicroBatch batch;
    batch.images = pixels;
    executable->run(batch);

    const auto compare = [&](graph::TensorId tensor, const std::string& name, std::int64_t some) {
        const std::vector<float> found = some_channels(executable->download(tensor),
                                                       plan.tensor(tensor).shape, some);
        EXPECT_TRUE(near(found, fixture.floats(name), 1e-5)) << name;
    };
    compare(features.high, cat(backbone, "/", output_stride, "/high"), 64);
    compare(features.low, backbone + "/32/low", 16);  // the same at all of them
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, GoldenFeatures,
    ::testing::Values(std::tuple("mobilenet_v2", 32), std::tuple("mobilenet_v2", 16),
                      std::tuple("mobilenet_v2", 8), std::tuple("xception41", 32),
                      std::tuple("xception41", 16), std::tuple("xception41", 8),
                      std::tuple("xception65", 32), std::tuple("xception65", 16),
                      std::tuple("xception65", 8), std::tuple("xception71", 32),
                      std::tuple("xception71", 16)),
    [](const auto& tested) {
        return cat(std::get<0>(tested.param), "_os", std::get<1>(tested.param));
    });

}  // namespace
}  // namespace deeplab::testing
