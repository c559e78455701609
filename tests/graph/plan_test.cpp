#include "deeplab/graph/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "deeplab/base/error.h"
#include "deeplab/graph/builder.h"
#include "deeplab/graph/operands.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::graph {
namespace {

using ::testing::HasSubstr;

Plan small_plan(std::int64_t bucket_bytes = 1 << 20) {
    return model::training_plan(
        {.backbone = "resnet18"},
        {.batch = 2, .height = 65, .width = 65, .bucket_bytes = bucket_bytes}, {});
}

// Ranks that differ in precision have different plans; statistics and parameters never change type.
TEST(ActivationType, IsThatOfActivationsAlone) {
    Plan plan = small_plan();
    const std::uint64_t before = hash(plan);
    set_activation_type(plan, DType::bf16);
    EXPECT_NE(hash(plan), before);
    EXPECT_EQ(parameter_hash(plan), parameter_hash(small_plan()));
    EXPECT_EQ(plan.tensor(plan.images).dtype, DType::bf16);
    EXPECT_EQ(plan.tensor(plan.logits).dtype, DType::bf16);
    EXPECT_EQ(plan.tensor(plan.labels).dtype, DType::u8);
    for (const Parameter& p : plan.parameters) {
        EXPECT_EQ(plan.tensor(p.value).dtype, DType::f32);
        EXPECT_EQ(plan.tensor(p.gradient).dtype, DType::f32);
    }
    for (const Node& node : plan.nodes) {
        if (const auto* op = std::get_if<BatchNormAct>(&node.op)) {
            const auto t = operands(*op, node);
            EXPECT_EQ(plan.tensor(t.y).dtype, DType::bf16);
            EXPECT_EQ(plan.tensor(t.saved).dtype, DType::f32);
        }
    }
    EXPECT_NE(to_string(plan).find("bf16"), std::string::npos);
    set_activation_type(plan, DType::f32);
    EXPECT_EQ(hash(plan), before);
    EXPECT_THROW(set_activation_type(plan, DType::f64), LogicError);
    plan.tensors[static_cast<std::size_t>(plan.images)].dtype = DType::bf16;
    EXPECT_THROW(validate(plan), LogicError) << "types are not mixed in a convolution";
}

TEST(Reverse, EveryParameterGradientIsWrittenOnce) {
    const Plan plan = small_plan();
    std::map<TensorId, int> writes;
    for (const Node& node : plan.nodes) {
        if (std::holds_alternative<AllReduce>(node.op)) continue;  // sums what was written
        for (const TensorId id : node.out) ++writes[id];
    }
    for (const Parameter& p : plan.parameters) EXPECT_EQ(writes[p.gradient], 1) << p.name;
}

TEST(Buckets, CoverTheFlatGradientWithoutGapAndEndInASmallOne) {
    for (const std::int64_t bytes : {1 << 18, 1 << 20, 32 << 20, 1 << 30}) {
        const Plan plan = small_plan(bytes);
        std::int64_t end = 0;
        for (const Bucket& b : plan.buckets) {
            EXPECT_EQ(b.offset, end);
            EXPECT_GT(b.count, 0);
            end = b.offset + b.count;
        }
        EXPECT_EQ(end, plan.parameter_count);
    }
    const Plan plan = model::training_plan({.backbone = "resnet101"}, {.batch = 1}, {});
    EXPECT_GE(plan.buckets.size(), 6u);
    EXPECT_LE(plan.buckets.back().count * 4, (32 << 20) / 4);
}

// What is sent is complete, and nothing writes it while it travels: the hazard between the two
// queues.
TEST(Buckets, NothingWritesABucketBehindItsAllReduce) {
    const Plan plan = small_plan(1 << 18);
    ASSERT_GT(plan.buckets.size(), 3u);
    std::set<TensorId> sent;
    for (const Node& node : plan.nodes) {
        for (const TensorId id : node.out)
            EXPECT_FALSE(sent.contains(id)) << name(node.op) << " " << plan.tensor(id).name;
        if (std::holds_alternative<AllReduce>(node.op)) sent.insert(node.in.begin(), node.in.end());
        if (std::holds_alternative<Update>(node.op)) {
            EXPECT_EQ(sent.size(), plan.parameters.size()) << "not every gradient was sent";
        }
    }
    EXPECT_TRUE(std::holds_alternative<Update>(plan.nodes.back().op));
}

TEST(Exchanges, AreStartFinishPairsOutsideTheArenaAndHideWeightGradients) {
    const Plan plan = small_plan();
    std::int32_t open = -1, next = 0;
    int hidden = 0;
    std::size_t largest = 0;
    for (const Node& node : plan.nodes) {
        if (const auto* start = std::get_if<ExchangeStart>(&node.op)) {
            EXPECT_EQ(open, -1);
            EXPECT_EQ(start->message, next++);
            open = start->message;
            largest = std::max(largest, node.in.size());
            for (const TensorId id : node.in) EXPECT_EQ(plan.tensor(id).space, Space::exchange);
        } else if (const auto* finish = std::get_if<ExchangeFinish>(&node.op)) {
            EXPECT_EQ(open, finish->message);
            open = -1;
        } else if (open >= 0) {
            EXPECT_TRUE(std::holds_alternative<Conv2dGradWeights>(node.op) ||
                        std::holds_alternative<AllReduce>(node.op));
            hidden += std::holds_alternative<Conv2dGradWeights>(node.op);
        }
    }
    EXPECT_EQ(next, plan.messages);
    EXPECT_EQ(largest, 5u);  // the ASPP branches travel together
    EXPECT_GT(hidden, 15);
}

TEST(Exchanges, FrozenBatchNormHasNone) {
    const Plan plan = model::training_plan(
        {.backbone = "resnet18"}, {.batch = 2, .height = 65, .width = 65, .freeze_bn = true}, {});
    EXPECT_EQ(plan.messages, 0);
    for (const Node& node : plan.nodes)
        EXPECT_FALSE(std::holds_alternative<BatchNormSums>(node.op));
}

TEST(Hash, TellsPlansApart) {
    const Plan a = small_plan();
    EXPECT_EQ(hash(a), hash(small_plan()));
    Plan b = small_plan();
    b.update.segments.front().weight_decay = 1e-3f;
    EXPECT_NE(hash(a), hash(b));
    EXPECT_EQ(parameter_hash(a), parameter_hash(b));
    EXPECT_NE(hash(a), hash(small_plan(1 << 18)));
    const Plan classes = model::training_plan({.backbone = "resnet18", .num_classes = 5},
                                              {.batch = 2, .height = 65, .width = 65}, {});
    EXPECT_NE(parameter_hash(a), parameter_hash(classes));
}

TEST(Validate, NamesTheNodeThatIsWrong) {
    Plan plan = small_plan();
    plan.tensors[static_cast<std::size_t>(subject(plan.nodes[0]))].shape.h += 1;
    try {
        validate(plan);
        FAIL() << "accepted";
    } catch (const LogicError& error) {
        EXPECT_NE(std::string(error.what()).find("node 0 (Conv2d)"), std::string::npos)
            << error.what();
    }
}

TEST(Validate, RefusesRelu6OfAResidualsSum) {
    Builder b(Mode::inference);
    const TensorId x = b.images({1, 4, 5, 5});
    b.batch_norm_act({.x = x, .name = "sum", .activation = Activation::relu6, .residual = x});
    try {
        b.inference_plan();
        FAIL() << "accepted";
    } catch (const LogicError& error) {
        EXPECT_THAT(error.what(), HasSubstr("(BatchNormAct): a residual's activation"));
    }
}

TEST(Validate, RefusesUseBeforeDefinition) {
    Plan plan = small_plan();
    std::swap(plan.nodes[0], plan.nodes[1]);
    EXPECT_THROW(validate(plan), LogicError);
}

// The flat buffers are no blind spot: what is summed or applied was written, all of it.
TEST(Validate, SeesWhatAllReduceAndUpdateTouch) {
    const auto refusal = [](const auto& spoil) -> std::string {
        Plan plan = small_plan();
        spoil(plan.nodes);
        try {
            validate(plan);
        } catch (const LogicError& error) {
            return error.what();
        }
        return "accepted";
    };
    const auto first_sum = [](std::vector<Node>& nodes) {
        return std::find_if(nodes.begin(), nodes.end(), [](const Node& node) {
            return std::holds_alternative<AllReduce>(node.op);
        });
    };
    const auto early = [&](std::vector<Node>& nodes) {
        const auto sum = first_sum(nodes);
        std::iter_swap(std::prev(sum), sum);
    };
    EXPECT_THAT(refusal(early), HasSubstr("(AllReduce): its inputs were written before"));
    const auto partial = [&](std::vector<Node>& nodes) { first_sum(nodes)->in.pop_back(); };
    EXPECT_THAT(refusal(partial), HasSubstr("(AllReduce): it sums the gradients of its bucket"));
    const auto forgetful = [](std::vector<Node>& nodes) { nodes.back().out.pop_back(); };
    EXPECT_THAT(refusal(forgetful), HasSubstr("(Update): it reads every gradient"));
}

// Of many tensors a line of the plan's text has two.
TEST(Text, NamesTheFirstAndTheLastOfManyTensors) {
    const std::string text = to_string(small_plan());
    const std::string update = text.substr(text.rfind("Update"));
    EXPECT_THAT(update, HasSubstr("(d backbone.conv1.weight, …, decoder.classifier.bias ("));
    EXPECT_LT(update.size(), 200u);
}

TEST(Builder, GroupedConvolutionHasAGroupsWeightShape) {
    Builder b(Mode::inference);
    const TensorId x = b.images({1, 12, 9, 9});
    const TensorId y = b.conv2d(x, "depthwise", 12, 3, {1, 1, 1, 12});
    EXPECT_EQ(b.shape(y), (Shape{1, 12, 9, 9}));
    EXPECT_THROW(b.conv2d(x, "uneven", 8, 3, {1, 1, 1, 5}), LogicError);
    const Plan plan = b.inference_plan();
    EXPECT_EQ(plan.parameters[0].shape, (Shape{12, 1, 3, 3}));
}

// A tensor that is the skip and, activated, the input of a depthwise convolution.
Plan plan_with_activated_input(Activation input) {
    Builder b(Mode::training);
    const TensorId images = b.images({2, 3, 9, 9}), labels = b.labels({2, 1, 9, 9});
    const TensorId x = b.conv2d(images, "stem", 8, 3, {1, 1, 1, 1});
    const TensorId y = b.conv2d(x, "dw", 8, 3, {1, 2, 2, 8}, false, input);
    const TensorId z = b.batch_norm_act({.x = y, .name = "bn", .residual = x});
    b.segmentation_loss(b.conv2d(z, "classifier", 5, 1, {}, true), labels, 255);
    return b.training_plan(1 << 20, {}, [](const Parameter&) { return UpdateSegment{}; });
}

TEST(Reverse, AnActivatedInputMasksTheDataGradientAndIsReadByTheWeightsGradient) {
    const Plan plan = plan_with_activated_input(Activation::relu);
    const auto& forward = std::get<Conv2d>(plan.nodes[1].op);
    EXPECT_EQ(forward.input, Activation::relu);
    const TensorId x = operands(forward, plan.nodes[1]).x;
    int data = 0, weights = 0;
    for (const Node& node : plan.nodes) {
        if (const auto* op = std::get_if<Conv2dGradData>(&node.op)) {
            const bool depthwise = op->geometry.groups == 8;
            EXPECT_EQ(op->input, depthwise ? Activation::relu : Activation::none);
            EXPECT_EQ(operands(*op, node).masks, depthwise ? x : none);
            data += depthwise;
        }
        if (const auto* op = std::get_if<Conv2dGradWeights>(&node.op)) {
            const bool depthwise = op->geometry.groups == 8;
            EXPECT_EQ(op->input, depthwise ? Activation::relu : Activation::none);
            weights += depthwise && operands(*op, node).x == x;
        }
    }
    EXPECT_EQ(data, 1);
    EXPECT_EQ(weights, 1);
    EXPECT_NE(hash(plan), hash(plan_with_activated_input(Activation::none)));
    EXPECT_NE(hash(plan), hash(plan_with_activated_input(Activation::relu6)));
}

// A head of upsampled features and the loss, both of which resize.
Plan plan_of_corners(bool features, bool loss) {
    Builder b(Mode::training);
    const TensorId images = b.images({2, 3, 9, 9}), labels = b.labels({2, 1, 9, 9});
    const TensorId x = b.conv2d(images, "stem", 8, 3, {2, 1, 1, 1});
    const TensorId y = b.upsample(x, 7, 7, none, 0, features);
    b.segmentation_loss(b.conv2d(y, "classifier", 5, 1, {}, true), labels, 255, loss);
    return b.training_plan(1 << 20, {}, [](const Parameter&) { return UpdateSegment{}; });
}

TEST(Corners, AreOfTheGradientTooAndOfTheHash) {
    for (const bool aligned : {true, false}) {
        int gradients = 0;
        for (const Node& node : plan_of_corners(aligned, true).nodes) {
            const auto* op = std::get_if<UpsampleGrad>(&node.op);
            if (op == nullptr) continue;
            EXPECT_EQ(op->align_corners, aligned);
            ++gradients;
        }
        EXPECT_EQ(gradients, 1);
    }
    std::set<std::uint64_t> hashes;
    for (const bool features : {true, false})
        for (const bool loss : {true, false}) hashes.insert(hash(plan_of_corners(features, loss)));
    EXPECT_EQ(hashes.size(), 4u);
    // Of the time when corners were always aligned.
    EXPECT_EQ(hash(small_plan()), 0x7f8a76361b26ee68u);
}

TEST(Validate, RefusesAnActivatedInputOfWhatIsNotDepthwise) {
    const auto refusal = [](std::int64_t outputs, const ConvGeometry& g, bool bias) -> std::string {
        Builder b(Mode::inference);
        b.conv2d(b.images({1, 4, 5, 5}), "c", outputs, 3, g, bias, Activation::relu);
        try {
            b.inference_plan();
        } catch (const LogicError& error) {
            return error.what();
        }
        return "accepted";
    };
    EXPECT_EQ(refusal(4, {1, 1, 1, 4}, false), "accepted");
    const auto told = HasSubstr("(Conv2d): an activation of the input is a depthwise");
    EXPECT_THAT(refusal(4, {1, 1, 1, 1}, false), told);
    EXPECT_THAT(refusal(4, {1, 1, 1, 2}, false), told);
    EXPECT_THAT(refusal(8, {1, 1, 1, 4}, false), told);
    EXPECT_THAT(refusal(4, {1, 1, 1, 4}, true), told);
}

TEST(Builder, EachPartOfANetworkHasItsBatchNorm) {
    Builder b(Mode::inference);
    const TensorId x = b.images({1, 3, 9, 9});
    b.set_batch_norm({.eps = 1e-3f, .momentum = 0.01f});
    const TensorId y = b.batch_norm_act({.x = x, .name = "backbone"});
    b.set_batch_norm({.eps = 1e-5f, .momentum = 0.2f});
    b.batch_norm_act({.x = y, .name = "head", .activation = Activation::none});
    const Plan plan = b.inference_plan();
    const auto& first = std::get<BatchNormAct>(plan.nodes[0].op);
    const auto& second = std::get<BatchNormAct>(plan.nodes[1].op);
    EXPECT_EQ(first.eps, 1e-3f);
    EXPECT_EQ(first.momentum, 0.01f);
    EXPECT_EQ(first.activation, Activation::relu);
    EXPECT_EQ(second.eps, 1e-5f);
    EXPECT_EQ(second.momentum, 0.2f);
    EXPECT_EQ(second.activation, Activation::none);
}

TEST(UpdateSegments, MergeNeighboursThatAreTreatedAlike) {
    const Plan plan = model::training_plan(
        {.backbone = "resnet18"}, {.batch = 2, .height = 65, .width = 65},
        {.weight_decay = 4e-5f,
         .groups = {{.match = "^(aspp|decoder)\\.", .lr_multiplier = 10, .weight_decay = 4e-5f}}});
    ASSERT_EQ(plan.update.segments.size(), 2u);
    EXPECT_EQ(plan.update.segments[0].offset, 0);
    EXPECT_EQ(plan.update.segments[0].lr_multiplier, 10.0f);
    EXPECT_EQ(plan.update.segments[0].count + plan.update.segments[1].count, plan.parameter_count);
}

}  // namespace
}  // namespace deeplab::graph
