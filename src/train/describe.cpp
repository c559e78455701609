#include "describe.h"

#include <algorithm>
#include <ctime>
#include <iostream>
#include <vector>

#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/base/version.h"
#include "deeplab/io/value.h"

namespace deeplab::train {

namespace {

std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[32];
    std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

// "host<tab>device" of every rank. Collective.
std::vector<std::string> devices_of(exec::Backend& backend, comm::Communicator& control) {
    return control.all_gather(cat(log::host(), "\t", backend.description()),
                              "devices of the ranks");
}

// Of convolutions, forward.
double gmac_per_image(const config::Config& config) {
    const data::CropSize& crop = config.data.augmentation.crop;
    return convolution_flops(model::inference_plan(config.model, 1, crop.height, crop.width)) / 2e9;
}

// Without what stands between them in the buffers, which parameter_count has.
std::int64_t parameters_of(const graph::Plan& plan) {
    std::int64_t sum = 0;
    for (const graph::Parameter& p : plan.parameters) sum += p.shape.elements();
    return sum;
}

// "mobilenet_v2, separable": what is not as a plain DeepLabV3+ has it.
std::string network_text(const model::ModelConfig& model) {
    return cat(model.backbone, model.separable ? ", separable" : "");
}

// "513", "65 high, 129 wide".
std::string crop_text(const data::CropSize& crop) {
    if (crop.height == crop.width) return cat(crop.height);
    return cat(crop.height, " high, ", crop.width, " wide");
}

// A rank's parameters, gradients and momentum.
std::int64_t parameter_bytes(const graph::Plan& plan) { return plan.parameter_count * 12; }

// A rank's state and activations. The host keeps bf16 as the floats that it emulates them with; a
// device has the parameters as bf16, too.
std::int64_t planned_bytes(const graph::Plan& plan, bool on_device) {
    bool bf16 = false;
    const auto bytes = [&](const graph::Tensor& t) {
        bf16 = bf16 || t.dtype == DType::bf16;
        const DType stored = t.dtype == DType::bf16 && !on_device ? DType::f32 : t.dtype;
        return t.shape.elements() * static_cast<std::int64_t>(size_of(stored));
    };
    const std::int64_t arena = graph::plan_memory(plan, bytes).arena_bytes;
    return arena + parameter_bytes(plan) + plan.state_count * 4 +
           (bf16 && on_device ? plan.parameter_count * 2 : 0);
}

}  // namespace

int loader_workers(const config::Config& config, int threads) {
    if (config.data.workers > 0) return static_cast<int>(config.data.workers);
    return std::clamp(threads / 2, 1, 16);
}

std::string environment_json(const TrainOptions& options, exec::Backend& backend,
                             comm::Communicator& control, comm::Communicator& gradients,
                             std::int64_t first_step) {
    io::Object out;
    out["version"] = version();
    out["git_hash"] = git_hash();
    out["build"] = build_summary();
    out["started"] = utc_now();
    out["command"] = options.command;
    out["first_step"] = first_step;
    out["communicator"] = gradients.description();
    out["nccl"] = comm::nccl_status();
    io::Object variables;
    for (const auto& text : comm::nccl_variables()) {
        const auto equals = text.find('=');
        variables[text.substr(0, equals)] = text.substr(equals + 1);
    }
    out["nccl_variables"] = variables;
    out["ranks"] = control.size();
    io::Array devices;
    for (const auto& text : devices_of(backend, control)) {
        const auto parts = split(text, '\t');
        io::Object device;
        device["rank"] = static_cast<std::int64_t>(devices.size());
        device["host"] = parts.at(0);
        device["device"] = parts.at(1);
        devices.emplace_back(device);
    }
    out["devices"] = devices;
    return io::to_json(out, 2) + "\n";
}

std::string plan_text(const graph::Plan& plan) {
    return cat(graph::to_string(plan), "\nhash ", hex64(graph::hash(plan)), "\n");
}

std::string needs_json(const Setup& setup, std::int64_t ranks, bool on_device,
                       const CheckpointRoom& checkpoints) {
    const config::Config& config = setup.config;
    const graph::Plan& plan = setup.plan;
    const std::int64_t memory = planned_bytes(plan, on_device);
    io::Object out;
    out["version"] = version();
    out["backbone"] = config.model.backbone;
    out["output_stride"] = config.model.output_stride;
    out["classes"] = config.model.num_classes;
    out["crop"] = config::crop_value(config.data.augmentation.crop);
    out["parameters"] = parameters_of(plan);
    out["statistics"] = plan.state_count;
    out["gmac_per_image"] = gmac_per_image(config);
    out["plan_hash"] = hex64(graph::hash(plan));
    out["ranks"] = ranks;
    out["global_batch"] = config.train.global_batch;
    out["accumulation"] = config.train.accumulation;
    out["micro_batch"] = setup.micro_batch_size;
    out["iterations"] = config.train.iterations;
    out["train_images"] = setup.train.records;
    out["val_images"] = setup.val ? setup.val->records : 0;
    out["memory_host_bytes"] = on_device ? 0 : memory;
    out["memory_device_bytes"] = on_device ? memory : 0;
    out["gradient_bytes"] = plan.parameter_count * 4;
    out["checkpoint_bytes"] = checkpoints.bytes;
    out["checkpoints_at_once"] = checkpoints.at_once;
    out["checkpoint_bytes_to_come"] = checkpoints.to_come;
    out["checkpoint_bytes_free"] = checkpoints.free < 0 ? io::Value() : checkpoints.free;
    return io::to_json(out, 2) + "\n";
}

void print_dry_run(const Setup& setup, const graph::MemoryPlan& memory,
                   comm::Communicator& control) {
    if (control.rank() != 0) return;
    const auto& config = setup.config;
    const auto& plan = setup.plan;
    const auto bytes = [](std::int64_t n) { return human_bytes(static_cast<std::uint64_t>(n)); };

    std::cout << "network     " << network_text(config.model) << ", output stride "
              << config.model.output_stride << ", " << config.model.num_classes << " classes, crop "
              << crop_text(config.data.augmentation.crop) << "\n"
              << "parameters " << parameters_of(plan) << "\n"
              << "GMAC per image " << fixed(gmac_per_image(config), 3) << "\n"
              << "statistics  " << plan.state_count << " running means and variances\n"
              << "work        " << fixed(convolution_flops(plan) / 1e9, 2)
              << " GFLOP of convolutions, forward and backward, for a micro-batch of "
              << setup.micro_batch_size << " on one rank\n"
              << "memory      " << bytes(memory.arena_bytes) << " activations (arena), "
              << bytes(parameter_bytes(plan)) << " parameters, gradients and momentum, a rank\n"
              << "traffic     " << plan.buckets.size() << " gradient buckets, "
              << bytes(plan.parameter_count * 4) << " a step; " << plan.messages
              << " batch-norm messages a micro-batch\n"
              << "plan        hash " << hex64(graph::hash(plan)) << ", " << plan.nodes.size()
              << " nodes, the same on all ranks\n"
              << "batch       " << config.train.global_batch << " = " << control.size()
              << " ranks x " << config.train.accumulation << " accumulation x "
              << setup.micro_batch_size << "\n"
              << "data        " << setup.train.split << ": " << setup.train.records << " images";
    if (setup.val) std::cout << "; " << setup.val->split << ": " << setup.val->records << " images";
    std::cout << "\n" << std::flush;
}

io::Image side_by_side(const io::Image& image, const io::Mask& truth, const io::Mask& predicted,
                       std::span<const io::Rgb> palette) {
    const auto w = static_cast<std::size_t>(image.width),
               h = static_cast<std::size_t>(image.height);
    io::Image out{.width = 3 * image.width,
                  .height = image.height,
                  .pixels = std::vector<std::uint8_t>(3 * w * h * 3)};
    for (std::size_t y = 0; y < h; ++y) {
        std::uint8_t* row = &out.pixels[3 * y * 3 * w];
        std::copy_n(&image.pixels[3 * y * w], 3 * w, row);
        for (const io::Mask* mask : {&truth, &predicted}) {
            row += 3 * w;
            for (std::size_t x = 0; x < w; ++x) {
                const io::Rgb color = palette[mask->labels[y * w + x]];
                row[3 * x] = color.r;
                row[3 * x + 1] = color.g;
                row[3 * x + 2] = color.b;
            }
        }
    }
    return out;
}

}  // namespace deeplab::train
