#include "network_step.h"

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/graph/builder.h"
#include "deeplab/tools/support.h"
#include "report.h"

namespace deeplab::bench {
void add_place_options(CommandLine& line, PlaceOptions& o) {
    line.option("--device", o.device, "where to run", {false, {"auto", "cpu", "cuda"}, ""});
    line.option("--comm", o.comm, "how gradients travel", {false, {"auto", "nccl", "mpi"}, ""});
    line.option("--engines", o.engines,
                "CUDA: convolutions by the fastest engines, timed at the first start and kept, or "
                "by the first that run",
                {false, {"timed", "first"}, ""});
    line.option(
        "--threads", o.threads,
        "threads of each rank on the CPU; 0: the processors of its affinity mask, shared by "
        "the node's ranks");
}

std::unique_ptr<exec::Backend> make_backend(const PlaceOptions& o, comm::Communicator& world) {
    return tools::make_backend({.device = tools::parse_device(o.device),
                                .threads = tools::thread_count(world, o.threads),
                                .tf32 = false,
                                .comm = o.comm,
                                .engines = o.engines},
                               world);
}

void add_model_options(CommandLine& line, NetworkOptions& o) {
    line.option("--backbone", o.backbone, "network, with initial weights",
                {false, model::backbone_names(), ""});
    line.option("--crop", o.crop, "side of the image");
    line.option("--classes", o.classes, "outputs of the network");
    line.option("--output-stride", o.output_stride, "8 or 16");
    add_place_options(line, o);
}

void add_network_options(CommandLine& line, NetworkOptions& o) {
    add_model_options(line, o);
    line.option("--batch", o.batch, "images of a rank");
    line.option("--precision", o.precision, "bf16 is emulated on the CPU",
                {false, {"fp32", "bf16"}, ""});
    line.flag("--no-graph", o.no_graph, "CUDA: launch the step's kernels one by one");
}

void check_network(const NetworkOptions& o) {
    if (o.crop < 17 || o.crop > 4097 || o.batch < 1 || o.batch > 1024 || o.threads < 0 ||
        o.classes < 2 || o.classes > 255)
        throw UsageError(
            "--crop is 17 to 4097, --batch 1 to 1024, --classes 2 to 255, --threads not negative — "
            "there is no step to measure — correct the command line");
}

model::ModelConfig model_of(const NetworkOptions& o) {
    model::ModelConfig config;
    config.backbone = o.backbone;
    config.num_classes = static_cast<int>(o.classes);
    config.output_stride = static_cast<int>(o.output_stride);
    return config;
}

void upload_initial_values(exec::Backend& backend, const graph::Plan& plan) {
    for (const auto& p : plan.parameters)
        backend.upload(p, exec::Slot::value, model::initial_value(p, plan, 1));
    for (const auto& s : plan.states) {
        const auto count = static_cast<std::size_t>(s.shape.elements());
        backend.upload(s, std::vector<float>(count, s.initial));
    }
}

Subject::Subject(const NetworkOptions& o, comm::Communicator& world, bool time_nodes)
    : gradients_(world.duplicate()), batch_norm_(world.duplicate()), graph_(!o.no_graph) {
    Clock::time_point start = Clock::now();
    const auto passed = [&](const char* stage) {
        const Clock::time_point now = Clock::now();
        stages.emplace_back(stage, seconds_between(start, now));
        start = now;
    };
    const model::ModelConfig config = model_of(o);
    plan = model::training_plan(config, {.batch = o.batch, .height = o.crop, .width = o.crop},
                                {.momentum = 0.9f, .weight_decay = 4e-5f, .groups = {}});
    if (o.precision == "bf16") graph::set_activation_type(plan, DType::bf16);
    passed("plan");
    backend = make_backend(o, world);
    backend->allocate(plan);
    passed("allocate");
    upload_initial_values(*backend, plan);
    passed("initial_values");
    compile(time_nodes);
    passed("compile");
    input_ = generated_input(o.batch, o.crop, config.num_classes, 1 + world.rank());
    valid_ = input_.valid;
    world.all_reduce(&valid_, 1, DType::f64, comm::ReduceOp::sum, "valid pixels");
    passed("input");
}

void Subject::compile(bool time_nodes) {
    executable.reset();
    prefetched_ = false;
    executable = backend->compile(plan, {gradients_.get(), batch_norm_.get()},
                                  {.cuda_graph = graph_, .tune = true, .time_nodes = time_nodes});
}

// As in training, a batch goes to the device while the step before its own is under way.
exec::MicroBatchResult Subject::step() {
    const exec::MicroBatch step{.images = input_.images,
                                .labels = input_.labels,
                                .samples = input_.samples,
                                .learning_rate = 1e-3,
                                .valid_pixels = valid_,
                                .prefetched = prefetched_};
    executable->start(step);
    if (finished_) host_gap_ = seconds_since(*finished_);
    executable->prefetch(step);
    prefetched_ = true;
    const exec::MicroBatchResult result = executable->finish();
    finished_ = Clock::now();
    if (!result.finite)
        throw DeviceError(
            "the gradient is not finite — the step's times would be of NaN — this is a bug, or "
            "the device computes wrongly");
    return result;
}

std::int64_t message_elements(const graph::Plan& plan, const graph::Node& exchange) {
    std::int64_t elements = 0;
    for (const graph::TensorId id : exchange.in) elements += plan.tensor(id).shape.elements();
    return elements;
}

std::vector<double> node_times(std::int64_t steps, Subject& subject) {
    std::vector<std::vector<double>> all(subject.plan.nodes.size());
    for (std::int64_t i = 0; i < 1 + steps; ++i) {
        subject.step();
        const std::vector<double> times = subject.executable->node_seconds();
        if (i == 0 || times.empty()) continue;
        for (std::size_t n = 0; n < all.size(); ++n) all[n].push_back(times[n]);
    }
    std::vector<double> medians;
    for (std::vector<double>& times : all) medians.push_back(median(std::move(times)));
    return medians;
}

}  // namespace deeplab::bench
