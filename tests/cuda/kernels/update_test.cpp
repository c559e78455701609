#include "update.h"

#include <gtest/gtest.h>

#include <limits>

#include "device.h"

namespace deeplab::testing {
namespace {

struct Flat {
    std::int64_t count;
    Values v, g, m;
    DeviceArray<float> values, gradients, momenta;
    DeviceArray<__nv_bfloat16> copy;
    DeviceArray<cuda::StepScalars> step;
    DeviceArray<cuda::UpdateOutcome> outcome{1};
    DeviceScratch scratch{cuda::gradient_norm_scratch_bytes()};

    Flat(std::int64_t n, double learning_rate, double valid_pixels)
        : count(n),
          v(random(1)),
          g(random(2)),
          m(random(3)),
          values(v),
          gradients(g),
          momenta(m),
          copy(static_cast<std::size_t>(n)),
          step(std::vector<cuda::StepScalars>{{learning_rate, valid_pixels}}) {}
    Values random(std::uint64_t seed) const {
        return reference::random_tensor({1, count, 1, 1}, seed).data;
    }
    void norm(double gradient_scale, float clip) const {
        cuda::gradient_norm(no_stream, gradients.data(), count, gradient_scale, clip, step.data(),
                            outcome.data(), scratch.get());
    }
    void sgd(const graph::UpdateRule& rule, bool with_copy) const {
        const DeviceArray<cuda::UpdatePiece> pieces(cuda::update_pieces(rule));
        cuda::sgd(
            no_stream,
            {values.data(), gradients.data(), momenta.data(), with_copy ? copy.data() : nullptr},
            pieces.data(), static_cast<std::int64_t>(pieces.values().size()), rule.momentum,
            step.data(), outcome.data());
    }
    double exact_norm() const {
        double squares = 0;
        for (const double e : g) squares += e * e;
        return std::sqrt(squares);
    }
};

TEST(UpdateKernels, NormFactorAndFiniteFlag) {
    for (const std::int64_t count : {1, 7, 2048, 100003}) {
        const Flat f(count, 0.1, 50);
        f.norm(0.5, 0);
        const double norm = f.exact_norm() / 25;
        EXPECT_NEAR(f.outcome.values()[0].norm, norm, 1e-12 * norm);
        EXPECT_FLOAT_EQ(f.outcome.values()[0].factor, 1.0f / 25);
        EXPECT_EQ(f.outcome.values()[0].finite, 1u);
        f.norm(0.5, static_cast<float>(norm / 4));
        EXPECT_NEAR(f.outcome.values()[0].factor, 0.01, 1e-5);
    }
    const Flat none(100, 0.1, 0);
    none.norm(1, 1);
    EXPECT_EQ(none.outcome.values()[0].factor, 0);
    EXPECT_EQ(none.outcome.values()[0].norm, 0);
    for (const float bad : {std::numeric_limits<float>::infinity(), NAN}) {
        const Flat f(5000, 0.1, 1);
        f.gradients.data()[4999] = bad;
        f.norm(1, 0);
        EXPECT_EQ(f.outcome.values()[0].finite, 0u);
    }
    const Flat large(5000, 0.1, 1);  // squares overflow f32, not the norm
    large.gradients.data()[77] = 1e30f;
    large.norm(1, 0);
    EXPECT_EQ(large.outcome.values()[0].finite, 1u);
    EXPECT_NEAR(large.outcome.values()[0].norm, 1e30, 1e24);
}

void expect_sgd_by_segments(bool accumulate_decay) {
    const Flat f(20011, 0.1, 50);
    const graph::UpdateRule rule{
        .momentum = 0.9f,
        .segments =
            {{.offset = 0, .count = 32, .weight_decay = 1e-2f},
             {.offset = 32, .count = 18000, .lr_multiplier = 10, .weight_decay = 0.05f, .steps = 3},
             {.offset = 18048, .count = 1963, .lr_multiplier = 0.5f, .weight_decay = 0.1f}},
        .accumulate_decay = accumulate_decay};
    f.norm(0.5, 0.01f);
    f.sgd(rule, true);
    const double factor = static_cast<double>(f.outcome.values()[0].factor);
    Values v = f.v, m = f.m;
    for (const graph::UpdateSegment& s : rule.segments) {
        const auto cut = [&](const Values& all) {
            return Values(all.begin() + s.offset, all.begin() + s.offset + s.count);
        };
        Values w = cut(f.v), buffer = cut(f.m), g = cut(f.g);
        for (double& e : g) e *= factor;
        reference::sgd(w, buffer, g, 0.1 * static_cast<double>(s.lr_multiplier),
                       static_cast<double>(rule.momentum), static_cast<double>(s.weight_decay),
                       s.steps, accumulate_decay);
        std::copy(w.begin(), w.end(), v.begin() + s.offset);
        std::copy(buffer.begin(), buffer.end(), m.begin() + s.offset);
    }
    EXPECT_TRUE(near(f.values.values(), v, 1e-6));
    EXPECT_TRUE(near(f.momenta.values(), m, 1e-6));
    // The gap between the segments is nobody's.
    for (std::size_t i = 18032; i < 18048; ++i) {
        EXPECT_EQ(static_cast<double>(f.values.values()[i]), f.v[i]);
        EXPECT_EQ(f.copy.values()[i].bits, 0xffff);
    }
    for (std::size_t i = 0; i < 18032; ++i)
        ASSERT_EQ(f.copy.values()[i].bits, math::to_bf16(f.values.values()[i])) << i;
    ASSERT_EQ(f.copy.values().back().bits, math::to_bf16(f.values.values().back()));

    const Flat same(20011, 0.1, 50);
    same.norm(0.5, 0.01f);
    same.sgd(rule, false);
    EXPECT_EQ(same.values.values(), f.values.values());
}

TEST(UpdateKernels, SgdBySegmentsAndTheCopy) {
    expect_sgd_by_segments(false);
    expect_sgd_by_segments(true);
}

TEST(UpdateKernels, NotFiniteChangesNothing) {
    const Flat f(1000, 0.1, 50);
    f.gradients.data()[3] = NAN;
    const std::vector<float> before = f.values.values(), momenta = f.momenta.values();
    f.norm(1, 0);
    f.sgd({.segments = {{.offset = 0, .count = 1000}}}, true);
    EXPECT_EQ(f.values.values(), before);
    EXPECT_EQ(f.momenta.values(), momenta);
    EXPECT_EQ(f.copy.values()[0].bits, 0xffff);
}

}  // namespace
}  // namespace deeplab::testing
