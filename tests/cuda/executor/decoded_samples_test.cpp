// Steps that bring decoded samples are those that bring the host's crops of them, bit for bit.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cpu/narrow_network.h"
#include "deeplab/base/error.h"
#include "harness/device.h"
#include "samples.h"

namespace deeplab {
namespace {

using testing::crop;
using testing::device;
using testing::narrow;
using testing::options;
using testing::Samples;
using testing::Trainer;

Trainer trainer(DType type, bool graph) {
    exec::CompileOptions compile;
    compile.seed = 9;
    compile.cuda_graph = graph;
    model::TrainingOptions sizes = options(2, crop.height);
    sizes.width = crop.width;
    return {narrow("resnet18", 16), sizes, compile, device(0), type};
}

class DecodedSamples : public ::testing::TestWithParam<DType> {};

// Eager, captured, replayed, with samples that grow from step to step.
TEST_P(DecodedSamples, TakeTheStepsOfTheHostsCrops) {
    Trainer tested = trainer(GetParam(), true), expected = trainer(GetParam(), true);
    EXPECT_TRUE(tested.backend->takes_decoded_samples());
    for (std::uint32_t i = 0; i < 4; ++i) {
        const Samples samples(2, i);
        exec::MicroBatch floats = samples.step(), bytes = samples.step();
        const auto decoded = samples.decoded_samples();
        bytes.decoded = decoded;
        floats.images = samples.images;
        floats.labels = samples.labels;
        EXPECT_EQ(tested.executable->run(bytes).loss_sum, expected.executable->run(floats).loss_sum)
            << "step " << i;
    }
    EXPECT_EQ(tested.state(), expected.state());
}

INSTANTIATE_TEST_SUITE_P(Types, DecodedSamples, ::testing::Values(DType::f32, DType::bf16));

// A plan takes both kinds in turn: each has graphs of its own.
TEST(DecodedSamples, TakeTurnsWithCrops) {
    Trainer tested = trainer(DType::f32, true), expected = trainer(DType::f32, false);
    for (std::uint32_t i = 0; i < 6; ++i) {
        const Samples samples(2, i / 2);
        const auto decoded = samples.decoded_samples();
        exec::MicroBatch floats = samples.step(), bytes = samples.step();
        floats.images = samples.images;
        floats.labels = samples.labels;
        bytes.decoded = decoded;
        EXPECT_EQ(tested.executable->run(i % 2 == 0 ? bytes : floats).loss_sum,
                  expected.executable->run(floats).loss_sum);
    }
    EXPECT_EQ(tested.state(), expected.state());
}

TEST(DecodedSamples, AreRefusedWithForeignLabels) {
    Trainer tested = trainer(DType::f32, true);
    Samples samples(2, 0);
    samples.decoded[1].mask.labels[77] = 9;
    const auto decoded = samples.decoded_samples();
    exec::MicroBatch step = samples.step();
    step.decoded = decoded;
    try {
        tested.executable->run(step);
        FAIL() << "a label of no class";
    } catch (const DataError& error) {
        EXPECT_NE(std::string(error.what()).find("label 9 in sample 1 of the batch"),
                  std::string::npos)
            << error.what();
    }
}

// Samples that stay on the device. Announced: four, of which each step brings two.
class KeptSamples : public ::testing::TestWithParam<DType> {
protected:
    static std::vector<std::int64_t> sizes() {
        std::vector<std::int64_t> pixels;
        for (std::uint32_t i = 0; i < 4; ++i)
            pixels.push_back(Samples::split_width(i) * Samples::split_height);
        return pixels;
    }
    static std::vector<exec::DecodedSample> numbered(const Samples& samples) {
        std::vector<exec::DecodedSample> decoded = samples.decoded_samples();
        for (std::size_t i = 0; i < decoded.size(); ++i) decoded[i].number = samples.ids[i].sample;
        return decoded;
    }
    static exec::MicroBatchResult run(const Trainer& trainer, const Samples& samples,
                                      const std::vector<exec::DecodedSample>& decoded) {
        exec::MicroBatch step = samples.step();
        step.decoded = decoded;
        return trainer.executable->run(step);
    }
};

// After the first epoch no step has an image or a mask any more. One sample comes twice in a batch;
// another executable, as after a trace, finds what the first one brought.
TEST_P(KeptSamples, AreSentOnceForTheSameBits) {
    Trainer tested = trainer(GetParam(), true), expected = trainer(GetParam(), true);
    tested.backend->keep_samples(sizes());
    const std::vector<std::vector<std::uint32_t>> batches = {{2, 2}, {0, 3}, {1, 0},  // epoch 0
                                                             {3, 1}, {0, 2}, {2, 1}};
    for (std::size_t i = 0; i < batches.size(); ++i) {
        const Samples samples(batches[i], i < 3 ? 0 : 1);
        auto decoded = numbered(samples);
        if (i >= 3)
            for (exec::DecodedSample& sample : decoded) sample.pixels = sample.labels = {};
        if (i == 4)
            tested.executable = tested.backend->compile(tested.plan, tested.communicators(),
                                                        {.seed = 9});
        EXPECT_EQ(run(tested, samples, decoded).loss_sum,
                  run(expected, samples, samples.decoded_samples()).loss_sum)
            << "step " << i;
    }
    EXPECT_EQ(tested.state(), expected.state());
}

INSTANTIATE_TEST_SUITE_P(Types, KeptSamples, ::testing::Values(DType::f32, DType::bf16));

// What the device has is not read again, whatever the step brings for it.
TEST_F(KeptSamples, AreNotReadAgain) {
    Trainer tested = trainer(DType::f32, true), expected = trainer(DType::f32, true);
    tested.backend->keep_samples(sizes());
    const Samples samples({1, 2}, 0);
    Samples blank = samples;
    for (data::LabelledImage& d : blank.decoded)
        std::fill(d.image.pixels.begin(), d.image.pixels.end(), std::uint8_t{0});
    run(tested, samples, numbered(samples));
    run(expected, samples, samples.decoded_samples());
    EXPECT_EQ(run(tested, blank, numbered(blank)).loss_sum,
              run(expected, samples, samples.decoded_samples()).loss_sum);
}

// Sent during the step before. The second batch is first replaced and then not used: what came with
// both is on the device all the same, and the third brings neither pixels nor labels.
TEST_P(KeptSamples, ArePrefetchedForTheSameBits) {
    Trainer tested = trainer(GetParam(), true), expected = trainer(GetParam(), true);
    tested.backend->keep_samples(sizes());
    const std::vector<std::vector<std::uint32_t>> batches = {{0, 1}, {2, 2}, {1, 2},
                                                             {2, 3}, {3, 0}, {1, 1}};
    bool prefetched = false;
    for (std::size_t i = 0; i < batches.size(); ++i) {
        const Samples samples(batches[i], static_cast<std::uint32_t>(i));
        exec::MicroBatch step = samples.step();
        std::vector<exec::DecodedSample> decoded = numbered(samples);
        if (i == 2)
            for (exec::DecodedSample& sample : decoded) sample.pixels = sample.labels = {};
        step.decoded = decoded;
        step.prefetched = prefetched;
        tested.executable->start(step);
        if (i + 1 < batches.size()) {
            // Gone before its step starts.
            const Samples next(batches[i + 1], static_cast<std::uint32_t>(i + 1));
            exec::MicroBatch coming;
            std::vector<exec::DecodedSample> memory = numbered(next);
            coming.decoded = memory;
            tested.executable->prefetch(coming);
            if (i == 0) {
                const Samples other({3, 3}, 1);
                memory = numbered(other);
                coming.decoded = memory;
                tested.executable->prefetch(coming);
            }
        }
        // First this step's end: the other frees memory at its own.
        const double loss = tested.executable->finish().loss_sum;
        EXPECT_EQ(loss, run(expected, samples, samples.decoded_samples()).loss_sum) << "step " << i;
        prefetched = i != 0;
    }
    EXPECT_EQ(tested.state(), expected.state());
}

TEST_F(KeptSamples, MustFit) {
    Trainer tested = trainer(DType::f32, true);
    try {
        tested.backend->keep_samples(std::vector<std::int64_t>(1 << 20, 1 << 20));
        FAIL() << "4 TiB";
    } catch (const DeviceError& error) {
        const std::string message = error.what();
        for (const char* part : {"1048576 samples", "4.00 TiB", "free", "data.cache"})
            EXPECT_NE(message.find(part), std::string::npos) << message;
    }
    tested.backend->keep_samples(sizes());  // nothing of the others was taken
}

TEST_F(KeptSamples, ComeOnceWithPixelsOfTheAnnouncedSize) {
    Trainer tested = trainer(DType::f32, true);
    tested.backend->keep_samples(sizes());
    const Samples samples({0, 1}, 0);
    auto decoded = numbered(samples);
    decoded[1].pixels = {};
    EXPECT_THROW(run(tested, samples, decoded), LogicError);
    decoded = numbered(samples);
    decoded[1].number = 2;
    EXPECT_THROW(run(tested, samples, decoded), LogicError);
    decoded[1].number = 4;
    EXPECT_THROW(run(tested, samples, decoded), LogicError);
}

}  // namespace
}  // namespace deeplab
