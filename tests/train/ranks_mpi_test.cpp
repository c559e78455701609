// The same global batch on 1, 2 and 3 ranks is the same training: network, loader, dropout,
// augmentation, synchronized batch norm and gradient all-reduce together. Run with 3 ranks; smaller
// groups are parts of it.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "deeplab/comm/communicator.h"
#include "deeplab/cpu/cpu_backend.h"
#include "deeplab/data/loader.h"
#include "deeplab/math/bf16.h"
#include "deeplab/model/deeplab.h"
#include "harness/compare.h"
#include "harness/mpi.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab {
namespace {

constexpr std::int64_t global_batch = 6;
constexpr std::uint64_t seed = 11;
const model::ModelConfig resnet{
    .backbone = "resnet18", .num_classes = 4, .dropout = {0.5f, 0.5f, 0.1f}};

struct Conditions {
    int ranks = 1;
    bool sync_bn = true;
    bool kink_free = false;  // batch-norm biases of +-4: no ReLU flips with the order of a sum
    model::ModelConfig network = resnet;
    data::CropSize crop = 65;
    int steps = 1;
    double learning_rate = 1e-4;
    std::int64_t accumulation = 1;
    bool overlap = true;
    DType gradient_type = DType::f32;
};

// The same on all ranks of the run; empty on ranks outside it.
struct Result {
    std::vector<double> losses;
    std::vector<float> logits, gradient;  // of the first step; whole batch in order
};

void initialise(exec::Backend& backend, const graph::Plan& plan, bool kink_free) {
    for (const graph::Parameter& p : plan.parameters) {
        std::vector<float> value = model::initial_value(p, plan, seed);
        if (kink_free && p.kind == graph::ParameterKind::bn_beta) {
            // ReLU6 has a kink at 6, too.
            const float shift = p.name.starts_with("backbone.features.") ? 3.0f : 4.0f;
            for (std::size_t i = 0; i < value.size(); ++i) value[i] = i % 2 == 0 ? shift : -shift;
        }
        backend.upload(p, exec::Slot::value, value);
    }
    for (const graph::State& s : plan.states) {
        backend.upload(s,
                       std::vector<float>(static_cast<std::size_t>(s.shape.elements()), s.initial));
    }
}

// Puts this rank's part of a tensor at its place in the whole one, on all ranks.
std::vector<float> gather(comm::Communicator& group, const std::vector<float>& part) {
    const auto size = static_cast<std::size_t>(group.size()),
               rank = static_cast<std::size_t>(group.rank());
    std::vector<float> whole(part.size() * size, 0.0f);
    std::copy(part.begin(), part.end(),
              whole.begin() + static_cast<std::ptrdiff_t>(part.size() * rank));
    group.all_reduce(whole.data(), whole.size(), DType::f32, comm::ReduceOp::sum,
                     "gather of a test");
    return whole;
}

const model::OptimizerOptions optimizer{
    .weight_decay = 4e-5f,
    .groups = {{.match = "^(aspp|decoder)", .lr_multiplier = 10, .weight_decay = 4e-5f}}};

data::LoaderOptions loader_options(const std::filesystem::path& dir, const Conditions& conditions,
                                   const comm::Communicator& group) {
    data::LoaderOptions options;
    options.dir = dir;
    options.split = "train";
    options.augmentation = {.crop = conditions.crop,
                            .resize = data::Augmentation::Resize::factor,
                            .range_low = 0.75,
                            .range_high = 1.5,
                            .pad_label = data::Augmentation::PadLabel::ignore};
    options.seed = seed;
    options.global_batch = global_batch;
    options.accumulation = conditions.accumulation;
    options.rank = group.rank();
    options.size = group.size();
    options.last_step = conditions.steps;
    return options;
}

Result train(const std::filesystem::path& dir, const Conditions& conditions) {
    comm::Communicator& world = testing::world();
    const bool member = world.rank() < conditions.ranks;
    const std::unique_ptr<comm::Communicator> group = world.split(member ? 0 : 1, world.rank());
    Result result;
    if (!member) return result;
    const std::unique_ptr<comm::Communicator> gradients = group->duplicate();
    const std::unique_ptr<comm::Communicator> norms = conditions.sync_bn ? group->duplicate()
                                                                         : comm::make_self();

    data::Loader loader(loader_options(dir, conditions, *group));

    const graph::Plan plan = model::training_plan(
        conditions.network,
        {.batch = global_batch / conditions.accumulation / conditions.ranks,
         .height = conditions.crop.height,
         .width = conditions.crop.width,
         .keep_logits = true},
        optimizer);
    const std::unique_ptr<exec::Backend> backend = cpu::make_cpu_backend(1);
    backend->allocate(plan);
    initialise(*backend, plan, conditions.kink_free);
    const std::unique_ptr<exec::Executable> step = backend->compile(
        plan, {gradients.get(), norms.get()},
        {.seed = seed, .overlap = conditions.overlap, .gradient_type = conditions.gradient_type});

    for (int s = 0; s < conditions.steps; ++s) {
        std::vector<data::Batch> batches;
        double valid = 0, loss = 0;
        for (std::int64_t m = 0; m < conditions.accumulation; ++m) {
            batches.push_back(loader.next());
            valid += static_cast<double>(batches.back().valid_pixels);
        }
        group->all_reduce(&valid, 1, DType::f64, comm::ReduceOp::sum, "valid pixels");
        for (std::size_t m = 0; m < batches.size(); ++m) {
            std::vector<math::SampleKey> ids;
            for (const math::SampleKey& key : batches[m].keys)
                ids.push_back({key.epoch, key.sample});
            loss += step->run({.images = batches[m].images,
                               .labels = batches[m].labels,
                               .samples = ids,
                               .learning_rate = conditions.learning_rate,
                               .valid_pixels = valid,
                               .first_micro = m == 0,
                               .last_micro = m + 1 == batches.size()})
                        .loss_sum;
        }
        group->all_reduce(&loss, 1, DType::f64, comm::ReduceOp::sum, "loss");
        result.losses.push_back(loss / valid);
        if (s > 0) continue;
        result.logits = gather(*group, step->download(plan.logits));
        for (const graph::Parameter& p : plan.parameters) {
            const std::vector<float> g = backend->download(p, exec::Slot::gradient);
            result.gradient.insert(result.gradient.end(), g.begin(), g.end());
        }
    }
    return result;
}

double largest_relative_difference(const std::vector<double>& a, const std::vector<double>& b) {
    double largest = a.size() == b.size() && !a.empty() ? 0 : INFINITY;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        largest = std::max(largest, std::abs(a[i] - b[i]) / std::abs(b[i]));
    }
    return largest;
}

class Ranks : public ::testing::Test {
protected:
    void SetUp() override {
        if (testing::world().size() < 3) GTEST_SKIP() << "skipped: needs 3 ranks";
        // Every rank writes a data set of its own: the same bytes.
        testing::write_tiny_dataset(dir_.path(), {});
    }
    static bool root() { return testing::world().rank() == 0; }
    testing::TempDir dir_;
};

TEST_F(Ranks, FirstStepAgrees) {
    const Result one = train(dir_.path(), {.ranks = 1});
    for (const int ranks : {2, 3}) {
        const Result many = train(dir_.path(), {.ranks = ranks});
        if (!root()) continue;
        EXPECT_LE(largest_relative_difference(many.losses, one.losses), 1e-5) << ranks << " ranks";
        EXPECT_TRUE(testing::near(many.logits, one.logits, 1e-4)) << ranks << " ranks";
    }
}

TEST_F(Ranks, WholeGradientAgreesFromAKinkFreeState) {
    const Result one = train(dir_.path(), {.ranks = 1, .kink_free = true});
    for (const int ranks : {2, 3}) {
        const Result many = train(dir_.path(), {.ranks = ranks, .kink_free = true});
        if (!root()) continue;
        EXPECT_TRUE(testing::near(many.gradient, one.gradient, 1e-3)) << ranks << " ranks";
    }
}

// Depthwise convolutions, ReLU6, activations of inputs.
TEST_F(Ranks, SeparableNetworksAgree) {
    for (const char* backbone : {"mobilenet_v2", "xception41"}) {
        Conditions conditions{.ranks = 1, .kink_free = true};
        conditions.network.backbone = backbone;
        conditions.network.width_divisor = 8;
        conditions.network.separable = true;
        conditions.network.dilation = model::Dilation::layer;
        const Result one = train(dir_.path(), conditions);
        for (const int ranks : {2, 3}) {
            conditions.ranks = ranks;
            const Result many = train(dir_.path(), conditions);
            if (!root()) continue;
            const std::string where = std::string(backbone) + " on " + std::to_string(ranks);
            EXPECT_LE(largest_relative_difference(many.losses, one.losses), 1e-5) << where;
            EXPECT_TRUE(testing::near(many.logits, one.logits, 1e-4)) << where;
            EXPECT_TRUE(testing::near(many.gradient, one.gradient, 1e-3)) << where;
        }
    }
}

TEST_F(Ranks, OblongCropsAgree) {
    for (const data::CropSize& crop : {data::CropSize(65, 129), data::CropSize(129, 65)}) {
        Conditions conditions{.ranks = 1, .kink_free = true, .crop = crop};
        conditions.network.width_divisor = 8;
        const Result one = train(dir_.path(), conditions);
        for (const int ranks : {2, 3}) {
            conditions.ranks = ranks;
            const Result many = train(dir_.path(), conditions);
            if (!root()) continue;
            const std::string where = std::to_string(crop.height) + " high on " +
                                      std::to_string(ranks);
            EXPECT_LE(largest_relative_difference(many.losses, one.losses), 1e-5) << where;
            EXPECT_TRUE(testing::near(many.logits, one.logits, 1e-4)) << where;
            EXPECT_TRUE(testing::near(many.gradient, one.gradient, 1e-3)) << where;
        }
    }
}

TEST_F(Ranks, SlowTwentyStepsAgree) {
    const Result one = train(dir_.path(), {.ranks = 1, .steps = 20});
    if (root()) {
        EXPECT_LT(one.losses.back(), 0.9 * one.losses.front());
    }
    for (const int ranks : {2, 3}) {
        const Result many = train(dir_.path(), {.ranks = ranks, .steps = 20});
        if (!root()) continue;
        EXPECT_LE(largest_relative_difference(many.losses, one.losses), 2e-3) << ranks << " ranks";
    }
}

// The comparison above can fail: without synchronized batch norm it does.
TEST_F(Ranks, WithoutSynchronizedBatchNormTheyDiffer) {
    const Result one = train(dir_.path(), {.ranks = 1});
    const Result many = train(dir_.path(), {.ranks = 3, .sync_bn = false});
    if (!root()) return;
    EXPECT_GT(largest_relative_difference(many.losses, one.losses), 1e-5);
    EXPECT_GT(testing::relative_error(many.logits, one.logits), 1e-2);
}

// Accumulation keeps the sum of gradients but normalises each micro-batch by itself: with frozen
// statistics it would be the same step. Across ranks the same micro-batches agree again.
TEST_F(Ranks, AccumulationAgreesAcrossRanks) {
    const Result one = train(dir_.path(), {.ranks = 1, .kink_free = true, .accumulation = 2});
    const Result three = train(dir_.path(), {.ranks = 3, .kink_free = true, .accumulation = 2});
    if (!root()) return;
    EXPECT_LE(largest_relative_difference(three.losses, one.losses), 1e-5);
    EXPECT_TRUE(testing::near(three.gradient, one.gradient, 1e-3));
}

// Gradients that travel as bf16: each value as near as its 8 bits allow, and the same on all ranks.
TEST_F(Ranks, SlowGradientsTravelAsBf16) {
    for (const int ranks : {2, 3}) {
        const Result exact = train(dir_.path(), {.ranks = ranks, .kink_free = true});
        const Result rounded = train(
            dir_.path(), {.ranks = ranks, .kink_free = true, .gradient_type = DType::bf16});
        const bool member = testing::world().rank() < ranks;
        const std::string bytes(reinterpret_cast<const char*>(rounded.gradient.data()),
                                rounded.gradient.size() * sizeof(float));
        const auto all = testing::world().all_gather(
            std::to_string(std::hash<std::string>{}(bytes)), "hashes of a test");
        for (int r = 0; r < ranks; ++r)
            EXPECT_EQ(all[static_cast<std::size_t>(r)], all[0]) << "rank " << r << " of " << ranks;
        if (!member) continue;
        EXPECT_EQ(rounded.losses, exact.losses) << "of the step before the update";
        EXPECT_TRUE(testing::near(rounded.gradient, exact.gradient, 1e-2));
        EXPECT_FALSE(testing::near(rounded.gradient, exact.gradient, 1e-4)) << "nothing rounded";
        for (const float v : rounded.gradient) EXPECT_EQ(v, math::round_to_bf16(v));
    }
}

TEST_F(Ranks, OverlapChangesNoBit) {
    const Result on = train(dir_.path(), {.ranks = 3, .steps = 3});
    const Result off = train(dir_.path(), {.ranks = 3, .steps = 3, .overlap = false});
    EXPECT_EQ(on.losses, off.losses);
    EXPECT_EQ(on.gradient, off.gradient);
}

}  // namespace
}  // namespace deeplab
