#include "bench_depthwise.h"

#include <algorithm>
#include <memory>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/graph/builder.h"
#include "network_step.h"

namespace deeplab::bench {
namespace {

struct Options : PlaceOptions {
    std::int64_t batch = 2, rounds = 11, channels = 0;
    std::string precision = "fp32";
};

// Maps of a 513x513 image, with the rates that the networks have there.
struct Map {
    std::int64_t channels, side, stride;
    std::vector<std::int64_t> rates;
};
const Map maps[] = {
    {96, 257, 2, {1}},              // MobileNetV2
    {144, 129, 1, {1}},             //
    {192, 65, 1, {1}},              //
    {384, 33, 1, {1, 2}},           //
    {576, 33, 1, {1, 2}},           //
    {960, 33, 1, {1, 2}},           //
    {128, 129, 1, {1}},             // Xception
    {728, 33, 1, {1, 2}},           //
    {728, 65, 1, {1, 2}},           //
    {728, 65, 2, {1}},              //
    {1536, 33, 1, {1, 2}},          //
    {2048, 33, 1, {1, 6, 12, 18}},  // ASPP
    {304, 129, 1, {1}},             // decoder
};

// The nodes of a map: oneDNN's forward pass at rate 1, which a depthwise convolution with a bias
// gets on a CPU, then each rate's three passes. A gradient of the right shape is any.
class MapPlan {
public:
    MapPlan(const Map& map, std::int64_t batch) {
        const Shape x{batch, map.channels, map.side, map.side};
        plan.images = tensor("images", x, graph::Space::input);
        const graph::Parameter w = parameter({map.channels, 1, 3, 3},
                                             graph::ParameterKind::conv_weight),
                               b = parameter({1, map.channels, 1, 1}, graph::ParameterKind::bias);
        const std::int64_t out = (map.side - 1) / map.stride + 1;
        const Shape y{batch, map.channels, out, out};
        node(graph::Conv2d{{map.stride, 1, 1, map.channels}}, {plan.images, w.value, b.value},
             tensor("y", y, graph::Space::arena));
        for (const std::int64_t rate : map.rates) {
            const graph::ConvGeometry g{map.stride, rate, rate, map.channels};
            const graph::TensorId own = tensor("own y", y, graph::Space::arena),
                                  dx = tensor("dx", x, graph::Space::arena);
            node(graph::Conv2d{g}, {plan.images, w.value}, own);
            node(graph::Conv2dGradData{g}, {own, w.value}, dx);
            node(graph::Conv2dGradWeights{g}, {plan.images, own}, w.gradient);
        }
    }

    graph::Plan plan;

private:
    graph::TensorId tensor(const char* name, const Shape& shape, graph::Space space) {
        plan.tensors.push_back({.name = name, .shape = shape, .space = space});
        return static_cast<graph::TensorId>(plan.tensors.size() - 1);
    }
    graph::Parameter parameter(const Shape& shape, graph::ParameterKind kind) {
        graph::Parameter p{
            .name = "p", .shape = shape, .kind = kind, .offset = plan.parameter_count};
        p.value = tensor("value", shape, graph::Space::parameter);
        p.gradient = tensor("gradient", shape, graph::Space::gradient);
        plan.parameter_count += (shape.elements() + 31) / 32 * 32;
        plan.parameters.push_back(p);
        return p;
    }
    void node(const graph::Op& op, std::vector<graph::TensorId> in, graph::TensorId out) {
        plan.nodes.push_back({op, std::move(in), {out}});
    }
};

// Seconds of each node, by round; one round is not counted.
std::vector<std::vector<double>> rounds_of(const graph::Plan& plan, const Options& o,
                                           comm::Communicator& world) {
    const auto first = world.duplicate(), second = world.duplicate();
    const auto backend = make_backend(o, world);
    backend->allocate(plan);
    for (const graph::Parameter& p : plan.parameters)
        backend->upload(p, exec::Slot::value,
                        std::vector<float>(static_cast<std::size_t>(p.shape.elements()), 0.1f));
    const auto executable = backend->compile(plan, {first.get(), second.get()},
                                             {.tune = true, .time_nodes = true});
    std::vector<float> images(static_cast<std::size_t>(plan.tensor(plan.images).shape.elements()));
    for (std::size_t i = 0; i < images.size(); ++i)
        images[i] = static_cast<float>(i * 7919 % 1024) / 512.0f - 1.0f;
    std::vector<std::vector<double>> rounds;
    for (std::int64_t i = 0; i <= o.rounds; ++i) {
        executable->run({.images = images, .labels = {}, .samples = {}});
        if (i > 0) rounds.push_back(executable->node_seconds());
    }
    return rounds;
}

void add_rows(const Map& map, const std::vector<std::vector<double>>& rounds, Report& report) {
    static constexpr const char* passes[] = {"forward", "backward data", "backward weights"};
    const auto medians = [&](const auto& of) {
        std::vector<double> all;
        for (const auto& seconds : rounds) all.push_back(of(seconds));
        std::sort(all.begin(), all.end());
        return all;
    };
    const auto other = medians([](const auto& s) { return s[0]; });
    std::size_t node = 1;
    for (const std::int64_t rate : map.rates) {
        for (const char* pass : passes) {
            const auto own = medians([&](const auto&s) { return s[node]; }),
                       ratio = medians([&](const auto&s) { return s[node] / s[0]; });
            ++node;
            report.rows.push_back({map.channels, map.side, map.stride, rate, std::string(pass),
                                   1e3 * median(own), 1e3 * median(other), median(ratio),
                                   ratio.front(), ratio.back()});
            std::string name = cat("depthwise_", map.channels, "_side", map.side, "_stride",
                                   map.stride, "_rate", rate, "_", pass);
            std::replace(name.begin(), name.end(), ' ', '_');
            report.summary[name + "_ms"] = 1e3 * median(own);
            report.summary[name + "_ratio"] = median(ratio);
        }
    }
}

Report measure(const Options& o, comm::Communicator& world) {
    if (o.batch < 1 || o.batch > 64 || o.rounds < 1 || o.rounds > 1000)
        throw UsageError(
            "--batch is 1 to 64, --rounds 1 to 1000 — there is nothing to measure — correct the "
            "command line");
    if (o.precision != "fp32" && o.precision != "bf16")
        throw UsageError(cat("precision \"", o.precision,
                             "\" (--precision) — depthwise convolutions are measured in fp32 or "
                             "bf16 — use one of these"));
    if (world.size() > 1)
        throw UsageError(
            "depthwise measures one rank's device and there are several ranks — they would "
            "disturb each other — start it without mpirun");
    Report report;
    report.columns = {"channels", "side",         "stride", "rate",      "pass",
                      "ms",       "reference_ms", "ratio",  "ratio_low", "ratio_high"};
    std::string device;
    double worst = 0;
    for (const Map& map : maps) {
        if (o.channels != 0 && map.channels != o.channels) continue;
        graph::Plan plan = MapPlan(map, o.batch).plan;
        if (o.precision == "bf16") graph::set_activation_type(plan, DType::bf16);
        add_rows(map, rounds_of(plan, o, world), report);
    }
    if (report.rows.empty())
        throw UsageError(cat("no map of ", o.channels,
                             " channels (--channels) — there is nothing to measure — leave it "
                             "out, or use one of the table's"));
    for (const auto& [name, value] : report.summary.members()) {
        if (name.ends_with("_ratio") && name.find("backward") != std::string::npos)
            worst = std::max(worst, *value.get_if<double>());
    }
    device = make_backend(o, world)->description();
    report.title = cat("depthwise convolutions, batch ", o.batch, ", ", o.precision, ": ", device);
    report.summary["depthwise_worst_gradient_ratio"] = worst;
    report.settings["device"] = device;
    report.settings["batch"] = o.batch;
    report.settings["rounds"] = o.rounds;
    report.settings["precision"] = o.precision;
    report.notes = {
        cat("ms: medians of ", o.rounds,
            " rounds, in each of which every pass of a map ran once; reference_ms: the library's "
            "(oneDNN's, cuDNN's) forward pass at rate 1 with a bias, in the same rounds"),
        "ratio: ms over the reference's of the same round, the median over rounds with the range"};
    return report;
}

}  // namespace

Bench depthwise(CommandLine& program) {
    const auto o = std::make_shared<Options>();
    CommandLine& line = program.command(
        "depthwise", "Depthwise convolutions of the networks, beside the library's forward pass");
    add_place_options(line, *o);
    line.option("--batch", o->batch, "images");
    line.option("--precision", o->precision, "fp32 or bf16");
    line.option("--rounds", o->rounds, "counted, after one that is not");
    line.option("--channels", o->channels, "maps of so many channels alone; 0: all");
    return {&line, [o](comm::Communicator& world) { return measure(*o, world); }};
}

}  // namespace deeplab::bench
