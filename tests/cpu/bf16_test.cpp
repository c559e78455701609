// A network with bf16 activations, as the CPU emulates them.
#include <gtest/gtest.h>

#include <algorithm>

#include "deeplab/math/bf16.h"
#include "narrow_network.h"

namespace deeplab::testing {
namespace {

using graph::TensorId;

// Every activation holds bf16 values, batch-norm statistics and parameters do not; the loss is
// near that of fp32, the memory plan holds (dead memory is NaN), and it learns.
TEST(Bf16Network, RoundsWhatADeviceStoresAndLearns) {
    const Batch batch(4, 65);
    const model::ModelConfig config = narrow("resnet18", 8);
    const exec::CompileOptions poison{.seed = 9, .poison = true};
    Trainer reference(config, options(4, 65), poison);
    Trainer a(config, options(4, 65), poison, 2, DType::bf16);
    for (graph::Tensor& t : a.plan.tensors) t.keep = t.space == graph::Space::arena;
    a.executable = a.backend->compile(a.plan, a.communicators(), {.seed = 9});
    const double exact = reference.executable->run(batch.step()).loss_sum,
                 first = a.executable->run(batch.step()).loss_sum;
    EXPECT_NE(first, exact);
    EXPECT_NEAR(first, exact, 0.02 * exact);

    std::size_t rounded = 0, exact_tensors = 0;
    for (std::size_t i = 0; i < a.plan.tensors.size(); ++i) {
        const graph::Tensor& t = a.plan.tensors[i];
        if (t.space != graph::Space::arena || t.dtype == DType::u8) continue;
        const std::vector<float> values = a.executable->download(static_cast<TensorId>(i));
        const bool fits = std::all_of(values.begin(), values.end(),
                                      [](float v) { return v == math::round_to_bf16(v); });
        EXPECT_EQ(fits, t.dtype == DType::bf16) << t.name;
        (fits ? rounded : exact_tensors) += 1;
    }
    EXPECT_GT(rounded, 100u);
    EXPECT_GT(exact_tensors, 20u);

    a.executable = a.backend->compile(a.plan, a.communicators(), poison);
    double last = 0;
    for (int i = 0; i < 15; ++i) last = a.executable->run(batch.step()).loss_sum;
    EXPECT_LT(last, 0.8 * first);
}

}  // namespace
}  // namespace deeplab::testing
