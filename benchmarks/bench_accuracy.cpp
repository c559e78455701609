#include "bench_accuracy.h"

#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/config/config.h"
#include "deeplab/data/loader.h"
#include "deeplab/graph/builder.h"
#include "deeplab/model/deeplab.h"
#include "deeplab/weights/checkpoint.h"
#include "network_step.h"
#include "tensor_errors.h"

namespace deeplab::bench {
namespace {

struct Options : PlaceOptions {
    std::string backbone = "resnet50", precision = "bf16", weights, data, split = "train_aug";
    std::int64_t crop = 129, batch = 4, seed = 1;
};

// With the augmentation of the run that the weights are from.
Input loaded(const Options& o, const data::ClassTable& classes, int outputs,
             const weights::Snapshot* weights) {
    if (static_cast<int>(classes.classes.size()) != outputs) {
        throw DataError(cat("split ", o.split, " has ", classes.classes.size(),
                            " classes, the network of ", o.weights, " has ", outputs,
                            " — the loss would not be defined — give weights trained on this data, "
                            "or leave --weights out"));
    }
    data::LoaderOptions options;
    options.dir = o.data;
    options.split = o.split;
    if (weights != nullptr) {
        const std::string& config = weights->info.config_toml;
        options.augmentation = config::parse_config(config, "the weights' configuration", {})
                                   .data.augmentation;
        options.normalisation = weights->info.normalisation();
    }
    options.augmentation.crop = o.crop;
    options.global_batch = o.batch;
    options.last_step = 1;
    options.seed = static_cast<std::uint64_t>(o.seed);
    data::Batch batch = data::Loader(options).next();
    Input in{std::move(batch.images), std::move(batch.labels), {}, 0};
    for (const auto& key : batch.keys) in.samples.push_back({key.epoch, key.sample});
    in.valid = static_cast<double>(batch.valid_pixels);
    return in;
}

// One step on one device, every tensor kept, nothing updated.
struct Side {
    std::unique_ptr<exec::Backend> backend;
    std::unique_ptr<comm::Communicator> gradients = comm::make_self(),
                                        batch_norm = comm::make_self();
    std::unique_ptr<exec::Executable> executable;
    double loss = 0;

    Side(std::unique_ptr<exec::Backend> b, graph::Plan plan, DType activations, const Options& o,
         const weights::Snapshot* weights, const Input& in)
        : backend(std::move(b)) {
        graph::set_activation_type(plan, activations);
        for (graph::Tensor& t : plan.tensors)
            t.keep = t.space == graph::Space::arena && t.parent == graph::none;
        backend->allocate(plan);
        if (weights != nullptr)
            weights::apply_snapshot(*backend, plan, *weights, false);
        else
            initialise(plan, o);
        executable = backend->compile(plan, {gradients.get(), batch_norm.get()},
                                      {.seed = static_cast<std::uint64_t>(o.seed), .tune = true});
        loss = executable
                   ->run({.images = in.images,
                          .labels = in.labels,
                          .samples = in.samples,
                          .learning_rate = 0,
                          .valid_pixels = in.valid})
                   .loss_sum /
               std::max(in.valid, 1.0);
    }

    void initialise(const graph::Plan& plan, const Options& o) {
        for (const auto& p : plan.parameters) {
            backend->upload(p, exec::Slot::value,
                            model::initial_value(p, plan, static_cast<std::uint64_t>(o.seed)));
        }
        for (const auto& s : plan.states) {
            const auto count = static_cast<std::size_t>(s.shape.elements());
            backend->upload(s, std::vector<float>(count, s.initial));
        }
    }
};

// Share of the logits' pixels whose largest logit is of the same class.
double agreement(std::span<const float> a, std::span<const float> b, const Shape& s) {
    const std::int64_t area = s.h * s.w;
    std::int64_t same = 0;
    for (std::int64_t n = 0; n < s.n; ++n) {
        for (std::int64_t p = 0; p < area; ++p) {
            const auto best = [&](std::span<const float> x) {
                std::int64_t winner = 0;
                const auto at = [&](std::int64_t c) {
                    return x[static_cast<std::size_t>((n * s.c + c) * area + p)];
                };
                for (std::int64_t c = 1; c < s.c; ++c)
                    if (at(c) > at(winner)) winner = c;
                return winner;
            };
            same += best(a) == best(b) ? 1 : 0;
        }
    }
    return static_cast<double>(same) / static_cast<double>(s.n * area);
}

void check(const Options& o, const comm::Communicator& world) {
    if (world.size() > 1) {
        throw UsageError(
            "accuracy compares one device with one — more ranks would all do the same — start it "
            "without mpirun");
    }
    if (o.crop < 17 || o.crop > 4097 || o.batch < 2 || o.batch > 1024 || o.threads < 0 ||
        o.seed < 0) {
        throw UsageError(
            "--crop is 17 to 4097, --batch 2 to 1024 (batch norm behind the image pooling needs "
            "two), --threads and --seed not negative — there is nothing to compare — correct the "
            "command line");
    }
}

struct Row {
    const char* pass;
    const graph::Node* node;
    graph::TensorId tensor;
};

// What the nodes write, in the list's order: activations, their gradients, parameters' gradients.
std::vector<Row> rows_of(const graph::Plan& plan) {
    std::vector<Row> forward, backward, parameters;
    bool behind_loss = false;
    for (const graph::Node& node : plan.nodes) {
        behind_loss = behind_loss || std::holds_alternative<graph::SegmentationLoss>(node.op);
        if (std::holds_alternative<graph::AllReduce>(node.op)) continue;  // what others wrote
        for (const graph::TensorId id : node.out) {
            const graph::Tensor& t = plan.tensor(id);
            if (t.dtype != DType::f32) continue;
            if (t.space == graph::Space::gradient) parameters.push_back({"parameter", &node, id});
            if (t.space == graph::Space::arena)
                (behind_loss ? backward : forward)
                    .push_back({behind_loss ? "backward" : "forward", &node, id});
        }
    }
    forward.insert(forward.end(), backward.begin(), backward.end());
    forward.insert(forward.end(), parameters.begin(), parameters.end());
    return forward;
}

// What the table comes down to.
struct Totals {
    std::map<std::string, std::vector<double>> means;  // of the tensors of a pass
    TensorErrors logits;
    double agreement = 0;

    double largest(const std::string& pass) const {
        return *std::max_element(means.at(pass).begin(), means.at(pass).end());
    }
};

Totals compare(const graph::Plan& plan, const Side& tested, const Side& exact, Report& report) {
    Totals totals;
    report.columns = {"pass", "op", "tensor", "elements", "rms", "mean", "p99", "max"};
    for (const Row& row : rows_of(plan)) {
        const auto got = tested.executable->download(row.tensor),
                   wanted = exact.executable->download(row.tensor);
        const graph::Tensor& tensor = plan.tensor(row.tensor);
        const TensorErrors e = tensor_errors(got, wanted);
        report.rows.push_back({row.pass, graph::name(row.node->op), tensor.name,
                               tensor.shape.elements(), e.rms, e.mean, e.p99, e.max});
        totals.means[row.pass].push_back(e.mean);
        if (row.tensor != plan.logits) continue;
        totals.logits = e;
        totals.agreement = agreement(got, wanted, tensor.shape);
    }
    return totals;
}

void summarise(const Options& o, const std::string& backbone, const Totals& t, const Side& tested,
               const Side& exact, Report& report) {
    const std::string prefix = cat(backbone, "_", o.crop, "_batch", o.batch, "_", o.precision, "_");
    const auto add = [&](const std::string& name, double value) {
        report.summary[prefix + name] = value;
    };
    add("loss", tested.loss);
    add("loss_relative_error", std::abs(tested.loss - exact.loss) / std::abs(exact.loss));
    add("logits_mean_error", t.logits.mean);
    add("logits_p99_error", t.logits.p99);
    add("logits_max_error", t.logits.max);
    add("class_agreement", t.agreement);
    for (const auto& [pass, errors] : t.means) {
        add(pass + "_median_mean_error", median(errors));
        add(pass + "_largest_mean_error", t.largest(pass));
    }
    report.notes = {
        "mean, p99, max: absolute differences divided by rms, the reference's root mean square",
        cat("loss ", tested.loss, ", reference ", exact.loss, "; same class in ",
            fixed(100 * t.agreement, 2), " % of the logits' pixels"),
        cat("logits: mean ", t.logits.mean, ", 99 % ", t.logits.p99, ", max ", t.logits.max),
        cat("parameters' gradients: mean errors, median ", median(t.means.at("parameter")),
            ", largest ", t.largest("parameter"))};
}

Report measure(const Options& o, comm::Communicator& world) {
    check(o, world);
    model::ModelConfig config;
    config.backbone = o.backbone;
    data::ClassTable classes;
    if (!o.data.empty()) {
        classes = data::load_manifest(o.data, o.split).classes;
        config.num_classes = static_cast<int>(classes.classes.size());
    }
    std::unique_ptr<weights::Snapshot> weights;
    if (!o.weights.empty()) {
        weights = std::make_unique<weights::Snapshot>(
            weights::load_checkpoint(weights::find_weights(o.weights)));
        config = weights->info.model;
    }
    const Input in = o.data.empty() ? generated_input(o.batch, o.crop, config.num_classes, o.seed)
                                    : loaded(o, classes, config.num_classes, weights.get());
    const graph::Plan plan = model::training_plan(
        config,
        {.batch = o.batch, .height = o.crop, .width = o.crop, .ignore_label = classes.ignore}, {});
    const DType type = o.precision == "bf16" ? DType::bf16 : DType::f32;
    const Side tested(make_backend(o, world), plan, type, o, weights.get(), in);
    const Side exact(make_backend({.device = "cpu"}, world), plan, DType::f32, o, weights.get(),
                     in);

    Report report;
    report.title = cat(config.backbone, ", crop ", o.crop, ", batch ", o.batch, ": ", o.precision,
                       " (", tested.backend->description(), ") against fp32 (",
                       exact.backend->description(), ")");
    report.settings["backbone"] = config.backbone;
    report.settings["crop"] = o.crop;
    report.settings["batch"] = o.batch;
    report.settings["precision"] = o.precision;
    report.settings["device"] = tested.backend->description();
    report.settings["weights"] = weights != nullptr ? "given" : "initial";
    report.settings["images"] = o.data.empty() ? "generated" : o.split;
    const Totals totals = compare(plan, tested, exact, report);
    summarise(o, config.backbone, totals, tested, exact, report);
    return report;
}

}  // namespace

Bench accuracy(CommandLine& program) {
    const auto o = std::make_shared<Options>();
    CommandLine& line = program.command(
        "accuracy", "Errors of one training step, tensor by tensor, against fp32 on the CPU");
    line.option("--backbone", o->backbone, "network, with initial weights",
                {false, model::backbone_names(), ""});
    line.option("--weights", o->weights, "or: a checkpoint or a run's folder",
                {false, {}, "WEIGHTS"});
    line.option("--crop", o->crop, "side of the crop");
    line.option(
        "--batch", o->batch,
        "images; with 2 the image pooling's batch norm gives +-1 and its gradient vanishes");
    add_place_options(line, *o);
    line.option("--precision", o->precision, "of the tested device; bf16 is emulated on the CPU",
                {false, {"fp32", "bf16"}, ""});
    line.option("--data", o->data, "folder of shards; without: generated images",
                {false, {}, "DIR"});
    line.option("--split", o->split, "which split of it", {false, {}, "NAME"});
    line.option("--seed", o->seed, "of weights, dropout and images");
    return {&line, [o](comm::Communicator& world) { return measure(*o, world); }};
}

}  // namespace deeplab::bench
