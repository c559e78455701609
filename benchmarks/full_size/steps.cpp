// full-size-steps: our side of the comparison with PyTorch at full size (full_size.py): batches by
// our loader, and training steps from given weights on given batches.

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include "deeplab/base/clock.h"
#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/config/config.h"
#include "deeplab/cpu/cpu_backend.h"
#include "deeplab/data/loader.h"
#include "deeplab/io/hdf5.h"
#include "deeplab/model/deeplab.h"
#include "deeplab/weights/weights.h"

namespace {

using namespace deeplab;

struct Arguments {
    std::string config, data, batches, weights, out, save;
    std::vector<std::string> set;
    std::int64_t first = 0, steps = 1, threads = 0;
    bool details = false;
};

std::string numbered(const char* what, std::int64_t step) {
    return cat(what, "/", right_aligned(cat(step), 4, '0'));
}

std::vector<std::int64_t> extents_of(const graph::Parameter& p) {
    if (p.kind == graph::ParameterKind::conv_weight)
        return {p.shape.n, p.shape.c, p.shape.h, p.shape.w};
    return {p.shape.c};
}

// images/0000 (N,3,H,W) f32, labels/0000 (N,1,H,W) u8, …
void write_batches(const Arguments& a) {
    const config::Config config = config::load_config(a.config, a.set);
    data::LoaderOptions options;
    options.dir = a.data;
    options.split = config.data.train_split;
    options.augmentation = config.data.augmentation;
    options.seed = static_cast<std::uint64_t>(config.train.seed);
    options.global_batch = config.train.global_batch;
    options.first_step = a.first;
    options.last_step = a.first + a.steps;
    data::Loader loader(options);
    io::Hdf5Writer file(a.out);
    const std::int64_t n = options.global_batch;
    const auto [h, w] = options.augmentation.crop;
    const std::int64_t images[] = {n, 3, h, w}, labels[] = {n, 1, h, w};
    for (std::int64_t s = 0; s < a.steps; ++s) {
        data::Batch batch = loader.next();
        file.write(numbered("images", a.first + s), batch.images.data(), DType::f32, images);
        file.write(numbered("labels", a.first + s), batch.labels.data(), DType::u8, labels);
        loader.recycle(std::move(batch));
    }
    file.close();
}

class Network {
public:
    Network(const config::Config& config, const Shape& images, bool keep_logits, int threads)
        : plan(model::training_plan(
              config.model,
              {.batch = images.n,
               .height = images.h,
               .width = images.w,
               .keep_logits = keep_logits},
              {.momentum = static_cast<float>(config.optimizer.momentum),
               .weight_decay = static_cast<float>(config.optimizer.weight_decay),
               .groups = config.optimizer.groups})),
          backend(cpu::make_cpu_backend(threads)) {
        backend->allocate(plan);
        for (const graph::Node& node : plan.nodes) {
            if (const auto* head = std::get_if<graph::SegmentationLoss>(&node.op))
                gradient_scale = static_cast<double>(head->gradient_scale);
        }
    }
    void load(const std::string& path) {
        const weights::ImportedWeights weights = weights::import_weights(weights::WeightsFile(path),
                                                                         plan, {});
        weights::apply_snapshot(*backend, plan, weights.snapshot, false);
    }
    void save(const std::string& path, const config::Config& config, std::int64_t steps) const {
        weights::WeightsInfo info;
        info.model = config.model;
        info.classes = data::voc_classes();
        info.step = steps;
        info.config_toml = config::to_stored_toml(config);
        weights::save_weights(path, weights::take_snapshot(*backend, plan, info), "");
    }
    // Of the mean over valid pixels, as PyTorch has it.
    void write_gradients(io::Hdf5Writer& file, double valid_pixels) const {
        for (const graph::Parameter& p : plan.parameters) {
            std::vector<float> values = backend->download(p, exec::Slot::gradient);
            for (float& v : values) {
                v = static_cast<float>(static_cast<double>(v) / (gradient_scale * valid_pixels));
            }
            file.write(cat("gradients/", p.name), values.data(), DType::f32, extents_of(p));
        }
    }
    void write_states(io::Hdf5Writer& file) const {
        for (const graph::State& s : plan.states) {
            const std::int64_t channels[] = {s.shape.c};
            file.write(cat("states/", s.name), backend->download(s).data(), DType::f32, channels);
        }
    }

    graph::Plan plan;
    std::unique_ptr<exec::Backend> backend;
    double gradient_scale = 0;
};

// losses f64 (steps); with --details of the first step: logits, gradients/NAME, states/NAME.
void run_steps(const Arguments& a) {
    const config::Config config = config::load_config(a.config, a.set);
    const io::Hdf5Reader batches(a.batches);
    const std::vector<std::int64_t> e = batches.extents(numbered("images", a.first));
    const Shape shape{e.at(0), e.at(1), e.at(2), e.at(3)};
    Network network(config, shape, a.details, static_cast<int>(a.threads));
    network.load(a.weights);
    const auto gradients = comm::make_self(), batch_norm = comm::make_self();
    const auto executable = network.backend->compile(network.plan,
                                                     {gradients.get(), batch_norm.get()}, {});
    std::cout << "ours: " << network.backend->description() << ", arena "
              << human_bytes(static_cast<std::uint64_t>(executable->memory().arena_bytes))
              << std::endl;
    io::Hdf5Writer file(a.out);
    std::vector<double> losses;
    for (std::int64_t s = 0; s < a.steps; ++s) {
        const auto start = Clock::now();
        const auto images = batches.read_all<float>(numbered("images", a.first + s), DType::f32);
        const auto labels = batches.read_all<std::uint8_t>(numbered("labels", a.first + s),
                                                           DType::u8);
        const auto valid = static_cast<double>(
            std::count_if(labels.begin(), labels.end(), [](auto label) { return label != 255; }));
        exec::MicroBatch step;
        step.images = images;
        step.labels = labels;
        step.learning_rate = config::learning_rate(config, s);
        step.valid_pixels = valid;
        const exec::MicroBatchResult result = executable->run(step);
        losses.push_back(result.loss_sum / std::max(valid, 1.0));
        const double took = seconds_since(start);
        std::cout << "ours: step " << s + 1 << "/" << a.steps << "  loss " << losses.back() << "  "
                  << fixed(took, 2) << " s" << std::endl;
        if (!a.details || s > 0) continue;
        const Shape& l = network.plan.tensor(network.plan.logits).shape;
        const std::int64_t extents[] = {l.n, l.c, l.h, l.w};
        file.write("logits", executable->download(network.plan.logits).data(), DType::f32, extents);
        network.write_gradients(file, valid);
        network.write_states(file);
    }
    if (!a.save.empty()) network.save(a.save, config, a.steps);
    const std::int64_t count[] = {a.steps};
    file.write("losses", losses.data(), DType::f64, count);
    file.close();
}

}  // namespace

int main(int argc, char** argv) {
    Arguments a;
    CommandLine line("full-size-steps", "Batches and training steps for full_size.py.",
                     "full-size-steps batches --config jobs/configs/voc_r101_reference.toml --data "
                     "SHARDS --steps 50 --out batches.h5");
    CommandLine& batches = line.command("batches", "writes augmented batches by our loader");
    CommandLine& train = line.command("train", "takes steps from given weights on given batches");
    for (CommandLine* command : {&batches, &train}) {
        command->option("--config", a.config, "configuration (TOML)");
        command->list("--set", a.set, "key=value over the configuration; repeatable");
        command->option("--first", a.first, "first batch");
        command->option("--steps", a.steps, "how many");
        command->option("--out", a.out, "HDF5 to write", {true, {}, "FILE"});
    }
    batches.option("--data", a.data, "folder of shards", {true, {}, "DIR"});
    train.option("--batches", a.batches, "written by `batches`", {true, {}, "FILE"});
    train.option("--weights", a.weights, "what to start from", {true, {}, "WEIGHTS"});
    train.option("--save", a.save, "safetensors to write after the last step", {false, {}, "FILE"});
    train.option("--threads", a.threads, "0: all processors");
    train.flag("--details", a.details, "also logits, gradients and statistics of the first step");
    try {
        if (!line.parse(argc, argv)) return 0;
        if (batches.chosen()) write_batches(a);
        if (train.chosen()) run_steps(a);
    } catch (const Error& error) {
        std::cerr << error.what() << std::endl;
        return static_cast<int>(error.code());
    }
}
