#include "ops/cases.h"

#include <utility>

#include "deeplab/base/text.h"

namespace deeplab::testing {

void PrintTo(const OpCase& c, std::ostream* out) { *out << c.family << ' ' << c.name; }

namespace {

// Maps just wider than the rate, so that every tap meets some pixels and misses others; of many
// channels in one direction at a time.
std::vector<ConvolutionCase> depthwise_cases() {
    std::vector<ConvolutionCase> all;
    for (const std::int64_t channels : {3, 32, 728, 1536}) {
        for (const std::int64_t stride : {1, 2}) {
            for (const std::int64_t rate : {1, 2, 4, 6, 12, 18, 36}) {
                for (const bool odd : {true, false}) {
                    const std::int64_t wide = rate + rate % 2 + (odd ? 3 : 4), narrow = odd ? 5 : 4;
                    Shape x{channels < 100 ? 2 : 1, channels, wide, wide};
                    if (channels >= 100) (odd ? x.w : x.h) = narrow;
                    all.push_back({cat("depthwise, ", channels, " channels, stride ", stride,
                                       ", rate ", rate, odd ? ", odd" : ", even"),
                                   x,
                                   channels,
                                   3,
                                   3,
                                   {stride, rate, rate, channels}});
                }
            }
        }
    }
    return all;
}

// Depthwise convolutions of an activation of x.
std::vector<ConvolutionCase> activated_cases() {
    constexpr auto relu = graph::Activation::relu, relu6 = graph::Activation::relu6;
    const auto of = [](const std::string& what, const Shape& x, const graph::ConvGeometry& g,
                       graph::Activation input, bool differences = false, std::int64_t kernel = 3) {
        return ConvolutionCase{what, x, x.c, kernel, kernel, g, false, differences, input};
    };
    return {of("of ReLU", {2, 64, 9, 7}, {1, 1, 1, 64}, relu),
            of("of ReLU, odd channels", {2, 37, 8, 9}, {1, 1, 1, 37}, relu),
            of("of ReLU, rate 2", {1, 728, 7, 6}, {1, 2, 2, 728}, relu),
            of("of ReLU, stride", {2, 128, 13, 12}, {2, 1, 1, 128}, relu),
            of("of ReLU, 5x5", {1, 48, 9, 9}, {1, 2, 1, 48}, relu, false, 5),
            of("of ReLU6", {2, 144, 9, 8}, {1, 4, 4, 144}, relu6),
            of("of ReLU6, stride", {2, 24, 9, 8}, {2, 1, 1, 24}, relu6),
            of("small, of ReLU", {1, 3, 5, 4}, {1, 1, 1, 3}, relu, true),
            of("small, of ReLU6 and a stride", {1, 3, 6, 5}, {2, 2, 2, 3}, relu6, true)};
}

std::vector<ConvolutionCase> dense_and_other_cases() {
    return {{"stem", {2, 3, 33, 33}, 16, 7, 7, {2, 3, 1, 1}},
            {"one by one", {2, 40, 9, 11}, 56, 1, 1, {}},
            {"one by one, odd channels", {2, 37, 9, 11}, 53, 1, 1, {}, true},
            {"one by one, one pixel", {3, 40, 1, 1}, 24, 1, 1, {}},
            {"one channel", {1, 1, 5, 4}, 1, 3, 3, {1, 1, 1, 1}, true},
            {"classifier", {2, 64, 9, 9}, 21, 1, 1, {}, true},
            {"two classes", {1, 64, 9, 9}, 2, 1, 1, {}, true},
            {"odd channels", {1, 19, 8, 7}, 35, 3, 3, {1, 1, 1, 1}, true},
            {"wide", {1, 304, 7, 7}, 256, 3, 3, {1, 1, 1, 1}},
            {"wide, fewer outputs", {1, 304, 7, 7}, 64, 3, 3, {1, 1, 1, 1}},
            {"stride", {2, 32, 13, 14}, 48, 3, 3, {2, 1, 1, 1}},
            {"shortcut", {2, 32, 13, 14}, 64, 1, 1, {2, 0, 1, 1}},
            {"kernel 3 by 1", {1, 16, 9, 9}, 16, 3, 1, {1, 1, 1, 1}},
            {"dilated", {2, 32, 11, 9}, 32, 3, 3, {1, 2, 2, 1}},
            {"rate 6 on 5x5", {2, 64, 5, 5}, 32, 3, 3, {1, 6, 6, 1}},
            {"rate 12 on 5x5", {2, 64, 5, 5}, 32, 3, 3, {1, 12, 12, 1}},
            {"rate 18 on 5x5", {2, 64, 5, 5}, 32, 3, 3, {1, 18, 18, 1}},
            {"rate 6 on 5x9", {1, 32, 5, 9}, 32, 3, 3, {1, 6, 6, 1}},
            {"rate 12 on 33x33", {1, 16, 33, 33}, 16, 3, 3, {1, 12, 12, 1}},
            {"rate 18 on 33x33", {1, 16, 33, 33}, 16, 3, 3, {1, 18, 18, 1}},
            {"rate 36 on 65x65", {1, 16, 65, 65}, 16, 3, 3, {1, 36, 36, 1}},
            {"stem, 64 of odd sides", {1, 3, 35, 49}, 64, 7, 7, {2, 3, 1, 1}},
            {"dilation 4, odd channels", {1, 83, 9, 11}, 67, 3, 3, {1, 4, 4, 1}},
            {"stride and dilation", {2, 35, 13, 10}, 37, 3, 3, {2, 2, 2, 1}, true},
            {"odd shortcut", {2, 67, 15, 9}, 131, 1, 1, {2, 0, 1, 1}},
            {"3x3, many tiles", {2, 35, 45, 47}, 33, 3, 3, {1, 1, 1, 1}},
            {"3x3 without padding", {1, 40, 8, 11}, 64, 3, 3, {1, 0, 1, 1}},
            {"3x3, more padding", {1, 64, 7, 6}, 40, 3, 3, {1, 2, 1, 1}},
            {"rate 2, smaller map", {1, 41, 12, 9}, 34, 3, 3, {1, 1, 2, 1}},
            {"3x3 of one pixel", {2, 32, 1, 1}, 32, 3, 3, {1, 1, 1, 1}},
            {"shortcut of many rows", {3, 64, 41, 39}, 48, 1, 1, {2, 0, 1, 1}},
            {"stride of an even map", {1, 48, 30, 28}, 50, 3, 3, {2, 1, 1, 1}},
            {"a tap outside the map", {1, 32, 2, 5}, 40, 3, 3, {2, 2, 3, 1}},
            {"groups", {2, 32, 9, 9}, 64, 3, 3, {1, 1, 1, 4}, true},
            {"depthwise", {2, 48, 9, 9}, 48, 3, 3, {1, 1, 1, 48}},
            {"depthwise, dilated", {1, 32, 13, 13}, 32, 3, 3, {1, 6, 6, 32}},
            {"depthwise, above the map", {1, 32, 5, 5}, 32, 3, 3, {1, 12, 12, 32}},
            {"depthwise of a bias", {2, 24, 7, 8}, 24, 3, 3, {1, 1, 1, 24}, true},
            {"depthwise 5x5", {2, 45, 9, 8}, 45, 5, 5, {1, 2, 1, 45}},
            {"depthwise 5x5, stride and rate", {1, 70, 13, 12}, 70, 5, 5, {2, 4, 2, 70}},
            {"depthwise 7x7, stride", {1, 96, 11, 14}, 96, 7, 7, {2, 3, 1, 96}},
            {"depthwise 1x1", {1, 40, 6, 7}, 40, 1, 1, {2, 0, 1, 40}},
            {"depthwise 3x1", {1, 33, 6, 7}, 33, 3, 1, {1, 1, 1, 33}},
            {"depthwise without padding", {1, 80, 9, 11}, 80, 3, 3, {1, 0, 2, 80}},
            {"depthwise, more padding", {1, 48, 6, 5}, 48, 3, 3, {1, 3, 1, 48}},
            {"depthwise, stride 3", {1, 48, 10, 11}, 48, 3, 3, {3, 1, 1, 48}},
            {"two filters a channel", {1, 24, 9, 8}, 48, 3, 3, {1, 1, 1, 24}},
            {"odd groups", {1, 15, 6, 6}, 9, 3, 3, {2, 1, 1, 3}}};
}

std::vector<ConvolutionCase> small_cases() {
    return {{"small stem", {2, 3, 9, 8}, 3, 7, 7, {2, 3, 1, 1}, true, true},
            {"small, one by one", {2, 4, 3, 5}, 3, 1, 1, {}, true, true},
            {"small shortcut", {1, 3, 5, 6}, 4, 1, 1, {2, 0, 1, 1}, true, true},
            {"small, three by three", {2, 3, 5, 4}, 2, 3, 3, {1, 1, 1, 1}, true, true},
            {"small stride", {1, 3, 7, 6}, 4, 3, 3, {2, 1, 1, 1}, true, true},
            {"small, dilated", {1, 2, 7, 6}, 3, 3, 3, {1, 2, 2, 1}, true, true},
            {"small, rate above the map", {2, 2, 4, 5}, 2, 3, 3, {1, 6, 6, 1}, true, true},
            {"small stride and dilation", {1, 2, 8, 7}, 2, 3, 3, {2, 2, 2, 1}, true, true},
            {"small groups", {1, 4, 5, 5}, 6, 3, 3, {1, 1, 1, 2}, true, true},
            {"small, depthwise", {2, 3, 5, 4}, 3, 3, 3, {1, 2, 2, 3}, true, true},
            {"small, depthwise of a stride", {2, 3, 7, 6}, 3, 3, 3, {2, 1, 1, 3}, false, true},
            {"small, depthwise 5x5", {1, 2, 6, 7}, 2, 5, 5, {1, 2, 1, 2}, false, true},
            {"small, three by one", {1, 2, 6, 5}, 2, 3, 1, {1, 1, 1, 1}, true, true}};
}

}  // namespace

const std::vector<ConvolutionCase>& convolution_cases() {
    static const std::vector<ConvolutionCase> all = [] {
        std::vector<ConvolutionCase> list = dense_and_other_cases();
        for (const auto& more : {small_cases(), depthwise_cases(), activated_cases()})
            list.insert(list.end(), more.begin(), more.end());
        return list;
    }();
    return all;
}

namespace {

class NormCases {
public:
    NormCases() { list_.reserve(64); }  // GCC 14 takes the growth of this list for an overflow
    void add(const Shape& x, graph::Activation activation, bool residual, bool frozen,
             int gradients = 1, Margin margin = {}, bool differences = false) {
        list_.push_back({x,
                         {.activation = activation, .residual = residual, .frozen = frozen},
                         gradients,
                         margin,
                         differences});
    }
    void small(const Shape& x, graph::Activation activation, bool residual, bool frozen) {
        add(x, activation, residual, frozen, 1, {}, true);
    }
    std::vector<NormCase> take() { return std::move(list_); }

private:
    std::vector<NormCase> list_;
};

}  // namespace

const std::vector<NormCase>& norm_cases() {
    static const std::vector<NormCase> all = [] {
        constexpr auto relu = graph::Activation::relu, relu6 = graph::Activation::relu6,
                       none = graph::Activation::none;
        NormCases cases;
        cases.add({2, 64, 9, 7}, relu, false, false);
        cases.add({2, 64, 9, 7}, relu, false, false, 2);
        cases.add({2, 64, 9, 7}, relu, true, false, 2);
        cases.add({3, 64, 9, 31}, relu, false, false);
        cases.add({1, 1, 1, 7}, relu, false, false);
        cases.add({3, 19, 5, 3}, relu, true, false);
        cases.add({3, 19, 5, 3}, relu, true, false, 2);
        cases.add({3, 19, 5, 3}, relu, false, false, 2);
        cases.add({3, 19, 5, 3}, none, false, false, 2);
        cases.add({4, 3, 13, 29}, none, false, false, 2);
        cases.add({2, 21, 11, 9}, relu, true, false, 3);
        cases.add({2, 35, 4, 4}, none, true, false, 3);
        cases.add({2, 48, 3, 3}, relu, true, true, 2);
        cases.add({2, 33, 3, 5}, relu, false, true, 5);
        cases.add({1, 21, 6, 6}, relu, false, false, 1, {5, 3});
        cases.add({2, 16, 6, 6}, relu, false, false, 3, {5, 3});
        cases.add({2, 24, 3, 3}, relu, true, false, 2, {5, 3});
        cases.add({1, 48, 33, 17}, relu, false, false, 1, {256, 0});
        cases.add({1, 304, 5, 5}, none, true, true, 2, {8, 16});
        cases.add({2, 304, 3, 3}, relu, false, true, 8, {3, 2});
        cases.add({2, 40, 21, 16}, relu, false, false, 2, {0, 4});
        cases.add({4, 40, 1, 1}, relu, false, false);
        cases.add({4, 256, 1, 1}, relu, false, false);
        cases.add({2, 300, 3, 1}, none, false, true);
        cases.add({2, 67, 5, 3}, none, true, true, 1);
        cases.add({1, 37, 7, 5}, relu, true, true, 3, {5, 3});
        cases.add({3, 131, 17, 9}, relu, true, false, 2);
        cases.add({1, 256, 33, 5}, relu, false, false, 4);
        cases.add({1, 2048, 3, 3}, relu, true, false, 5);
        cases.add({2, 64, 9, 7}, relu6, false, false, 2);
        cases.add({3, 19, 5, 3}, relu6, false, false);
        cases.add({2, 144, 9, 5}, relu6, false, true, 2, {8, 16});
        cases.add({1, 37, 7, 5}, relu6, false, false, 3, {5, 3});
        cases.small({2, 3, 4, 3}, none, false, false);
        cases.small({2, 3, 4, 3}, relu, false, false);
        cases.small({3, 2, 3, 3}, none, true, false);
        cases.small({3, 2, 3, 3}, relu, true, false);
        cases.small({4, 5, 1, 1}, relu, false, false);
        cases.small({2, 3, 4, 3}, none, false, true);
        cases.small({2, 3, 4, 3}, relu, false, true);
        cases.small({2, 3, 2, 5}, none, true, true);
        cases.small({2, 3, 2, 5}, relu, true, true);
        cases.small({2, 3, 5, 3}, relu6, false, false);
        cases.small({2, 3, 5, 3}, relu6, false, true);
        return cases.take();
    }();
    return all;
}

namespace {

std::string told(bool align_corners) { return align_corners ? "" : ", half-pixel centres"; }
std::string told(Margin m) {
    return m.before + m.after > 0 ? cat(" margin ", m.before, '+', m.after) : std::string();
}

const std::vector<PoolCase> max_pool_cases = {{{2, 64, 17, 13}},
                                              {{2, 64, 17, 11}},
                                              {{1, 19, 8, 9}},
                                              {{1, 3, 8, 9}},
                                              {{1, 1, 1, 1}},
                                              {{1, 16, 1, 1}},
                                              {{2, 33, 7, 7}, {2, 2, 0}},
                                              {{1, 131, 9, 21}},
                                              {{1, 5, 9, 9}, {5, 1, 2}},
                                              {{1, 16, 10, 7}, {3, 3, 0}},
                                              {{3, 21, 7, 5}, {}, {1, 2}},
                                              {{1, 304, 5, 6}, {}, {16, 8}},
                                              {{1, 2048, 3, 2}},
                                              {{4, 48, 33, 2}, {2, 2, 0}},
                                              {{2, 8, 6, 6}, {5, 1, 2}},
                                              {{2, 3, 7, 6}, {3, 2, 1}, {}, true},
                                              {{2, 3, 7, 6}, {2, 2, 0}, {}, true},
                                              {{2, 3, 7, 6}, {3, 1, 1}, {}, true},
                                              {{2, 3, 7, 6}, {5, 3, 2}, {}, true}};

const std::vector<std::pair<Shape, Margin>> average_pool_cases = {
    {{2, 200, 5, 7}, {}},      {{1, 3, 33, 33}, {}},  {{3, 65, 1, 1}, {}},
    {{2, 2048, 3, 5}, {}},     {{2, 64, 17, 13}, {}}, {{2, 64, 17, 11}, {}},
    {{1, 19, 8, 9}, {}},       {{1, 3, 8, 9}, {}},    {{3, 21, 7, 5}, {1, 2}},
    {{1, 304, 5, 6}, {16, 8}}, {{1, 2048, 3, 2}, {}}, {{4, 48, 33, 2}, {}},
    {{1, 16, 1, 1}, {}},       {{2, 8, 6, 6}, {}},    {{2, 3, 5, 4}, {}}};

const std::vector<ResizeCase> resize_cases = {
    {{2, 64, 5, 5}, 17, 17},        {{1, 19, 3, 4}, 10, 9},
    {{2, 33, 1, 1}, 7, 5},          {{1, 16, 6, 1}, 6, 3},
    {{1, 21, 9, 9}, 4, 5},          {{1, 131, 5, 7}, 17, 25},
    {{3, 67, 4, 3}, 4, 3},          {{1, 3, 33, 33}, 129, 129},
    {{2, 64, 9, 7}, 33, 25},        {{1, 256, 5, 5}, 17, 17},
    {{3, 48, 1, 1}, 13, 9, {8, 0}}, {{2, 3, 6, 4}, 11, 15},
    {{1, 21, 3, 3}, 9, 10, {5, 2}}, {{1, 304, 3, 2}, 5, 4, {16, 32}},
    {{1, 8, 2, 5}, 150, 5},         {{1, 48, 1, 4}, 3, 7},
    {{2, 24, 9, 9}, 5, 4},          {{1, 2048, 2, 2}, 3, 3},
    {{1, 16, 4, 4}, 1, 1},          {{2, 2, 3, 4}, 9, 7, {}, true},
    {{1, 3, 1, 1}, 4, 5, {}, true}, {{1, 2, 7, 6}, 3, 4, {}, true},
    {{1, 2, 5, 1}, 17, 3, {}, true}};

const Shape elementwise_shapes[] = {{2, 64, 9, 7}, {1, 304, 3, 5},  {3, 21, 5, 5},
                                    {1, 3, 1, 1},  {4, 48, 13, 11}, {1, 2048, 3, 1}};
const Margin margins[] = {{}, {8, 16}, {1, 2}};

std::vector<DropoutCase> dropout_cases() {
    std::vector<DropoutCase> all = {{{3, 19, 5, 7}, 0.3f},
                                    {{2, 64, 9, 65}, 0.3f},
                                    {{1, 1, 1, 1}, 0.3f},
                                    {{2, 5, 3, 129}, 0.3f},
                                    {{1, 256, 4, 4}, 0.3f},
                                    {{3, 131, 3, 7}, 0.3f},
                                    {{2, 3, 5, 3}, 0.4f, 1, {}, true}};
    for (const Shape& shape : elementwise_shapes) {
        for (const Margin& margin : margins)
            for (const float p : {0.1f, 0.5f}) all.push_back({shape, p, 2, margin});
    }
    return all;
}

std::vector<SumCase> sum_cases() {
    std::vector<SumCase> all = {{{1, 2, 3, 2}, 3}, {{3, 19, 5, 7}, 3}};
    for (std::size_t count = 2; count <= 8; ++count) all.push_back({{2, 37, 3, 5}, count, {3, 4}});
    for (const Shape& shape : elementwise_shapes) {
        for (const Margin& margin : margins)
            for (const std::size_t count : {std::size_t{2}, std::size_t{8}})
                all.push_back({shape, count, margin});
    }
    return all;
}

std::vector<LossCase> loss_cases() {
    std::vector<LossCase> all = {{{2, 4, 3, 4}, 9, 7, 0.8, true},
                                 {{1, 2, 5, 3}, 5, 3, 0.8, true},
                                 {{3, 5, 1, 1}, 4, 4, 0.8, true},
                                 {{2, 4, 3, 4}, 9, 7, 0.8, true, false},
                                 {{1, 2, 5, 3}, 4, 2, 0.8, true, false}};
    const LossCase shapes[] = {{{2, 21, 9, 9}, 33, 33, 1},
                               {{1, 2, 5, 3}, 18, 11, 1},
                               {{3, 19, 1, 1}, 5, 7, 1},
                               {{1, 21, 17, 17}, 65, 65, 1},
                               {{2, 21, 25, 17}, 97, 65, 1},
                               {{2, 255, 3, 4}, 9, 10, 1},
                               {{1, 5, 7, 7}, 7, 7, 1},
                               {{2, 21, 9, 7}, 33, 25, 1},
                               {{1, 21, 5, 33}, 17, 129, 1},
                               {{1, 21, 3, 70}, 9, 300, 1},
                               {{3, 4, 6, 5}, 21, 17, 1},
                               {{1, 40, 4, 9}, 13, 60, 1},
                               {{1, 255, 2, 3}, 5, 9, 1},
                               {{2, 21, 1, 1}, 5, 4, 1},
                               {{1, 12, 7, 7}, 7, 7, 1},
                               {{1, 21, 9, 9}, 4, 5, 1},
                               {{1, 21, 4, 3}, 70, 90, 1},
                               {{1, 3, 3, 1}, 9, 1, 1},
                               // A block of the CUDA kernel has several rows of logits.
                               {{1, 21, 1100, 3}, 2199, 5, 1},
                               {{1, 5, 1100, 3}, 2199, 5, 1}};
    for (LossCase c : shapes) {
        for (const double valid : {1.0, 0.7, 0.01}) {
            c.valid = valid;
            all.push_back(c);
        }
        c.valid = 0.7;
        c.align_corners = false;
        all.push_back(c);
    }
    return all;
}

}  // namespace

std::vector<OpCase> op_cases() {
    std::vector<OpCase> all;
    const auto add = [&](const char* family, const std::string& name, auto make, const auto& c,
                         bool differences) {
        all.push_back({family, name, [make, c] { return make(c); }, differences});
    };
    for (const auto& c : convolution_cases()) add("Conv2d", c.what, convolution, c, c.differences);
    for (const auto& c : norm_cases())
        add("BatchNormAct", ::testing::PrintToString(c), norm, c, c.differences);
    for (const auto& c : max_pool_cases)
        add("MaxPool",
            cat(to_string(c.x), " kernel ", c.op.kernel, " stride ", c.op.stride, told(c.margin)),
            max_pool, c, c.differences);
    for (const auto& c : average_pool_cases)
        add(
            "GlobalAveragePool", cat(to_string(c.first), told(c.second)),
            [](const auto& pair) { return average_pool(pair.first, pair.second); }, c,
            c.first.elements() < 200);
    for (ResizeCase c : resize_cases) {
        for (const bool align : {true, false}) {
            c.align_corners = align;
            add("Upsample",
                cat(to_string(c.x), " to ", c.height, 'x', c.width, told(c.margin), told(align)),
                resize, c, c.differences);
        }
    }
    for (const auto& c : dropout_cases())
        add("Dropout", cat(to_string(c.shape), " of ", c.probability, told(c.margin)), dropout, c,
            c.differences);
    for (const auto& c : sum_cases())
        add("Sum", cat(c.count, " of ", to_string(c.shape), told(c.margin)), sum, c,
            c.shape.elements() < 20);
    for (const auto& c : loss_cases())
        add("SegmentationLoss",
            cat(to_string(c.logits), " to ", c.height, 'x', c.width, ", ", c.valid, " valid",
                told(c.align_corners)),
            loss, c, c.differences);
    for (const float clip : {0.0f, 0.5f}) {
        for (const bool accumulate : {false, true})
            add(
                "Update", cat("clip ", clip, accumulate ? ", decay accumulates" : ""),
                [clip](bool accumulates) { return update(clip, accumulates); }, accumulate, false);
    }
    return all;
}

}  // namespace deeplab::testing
