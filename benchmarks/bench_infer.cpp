#include "bench_infer.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/evaluate/evaluator.h"
#include "network_step.h"

namespace deeplab::bench {
namespace {

struct Options : NetworkOptions {
    std::int64_t steps = 5, warmup = 2;
};

// The bytes of step_input.h's picture.
io::Image generated_image(std::int64_t side, int classes) {
    const std::vector<float> planes = generated_input(1, side, classes, 1).images;
    io::Image image{.width = side, .height = side, .pixels = {}};
    for (std::int64_t p = 0; p < side * side; ++p) {
        for (std::int64_t c = 0; c < 3; ++c) {
            const float value = planes[static_cast<std::size_t>(c * side * side + p)];
            image.pixels.push_back(
                static_cast<std::uint8_t>(std::clamp(128 + 50 * value, 0.0f, 255.0f)));
        }
    }
    return image;
}

struct Times {
    std::vector<double> seconds, network, labels;
};

Times measure_images(const Options& o, exec::Backend& backend, const model::ModelConfig& config) {
    const io::Image image = generated_image(o.crop, config.num_classes);
    Clock::time_point network_done;
    bool checked = false;
    evaluate::Predictor predictor(
        backend, config, {.normalisation = {}, .on_pass = [&](const evaluate::Pass& pass) {
                              network_done = Clock::now();
                              if (checked) return;
                              checked = true;
                              if (!std::all_of(pass.logits.begin(), pass.logits.end(),
                                               [](float v) { return std::isfinite(v); }))
                                  throw DeviceError(
                                      "a logit is not finite — the times would be of NaN — this is "
                                      "a bug, or the device computes wrongly");
                          }});
    Times times;
    for (std::int64_t i = 0; i < o.warmup + o.steps; ++i) {
        const Clock::time_point start = Clock::now();
        predictor.predict(image);
        const Clock::time_point end = Clock::now();
        if (i < o.warmup) continue;
        times.seconds.push_back(seconds_between(start, end));
        times.network.push_back(seconds_between(start, network_done));
        times.labels.push_back(seconds_between(network_done, end));
    }
    return times;
}

Report measure(const Options& o, comm::Communicator& world) {
    check_network(o);
    if (o.steps < 1 || o.steps > 100000 || o.warmup < 0)
        throw UsageError(
            "--steps is 1 to 100000, --warmup not negative — there is no image to measure — "
            "correct the command line");
    const model::ModelConfig config = model_of(o);
    const std::unique_ptr<exec::Backend> backend = make_backend(o, world);
    const std::int64_t padded = model::padded_size(config, o.crop);
    const graph::Plan plan = model::inference_plan(config, 1, padded, padded);
    backend->allocate(plan);
    upload_initial_values(*backend, plan);
    const Times times = measure_images(o, *backend, config);
    double all[] = {median(times.seconds), median(times.network), median(times.labels)};
    world.all_reduce(all, 3, DType::f64, comm::ReduceOp::max, "times of the images");

    Report report;
    report.title = cat("labels of an image with ", o.backbone, ", side ", o.crop, ", ",
                       world.size(),
                       world.size() == 1 ? " rank: " : " ranks: ", backend->description());
    report.columns = {"part", "ms", "percent"};
    const std::string prefix = cat("infer_", o.backbone, "_", o.crop, "_ranks", world.size(),
                                   "_fp32_");
    report.rows.push_back({"pixels to logits", 1e3 * all[1], 100 * all[1] / all[0]});
    report.rows.push_back({"upsampling and arg max", 1e3 * all[2], 100 * all[2] / all[0]});
    report.rows.push_back({"image", 1e3 * all[0], 100.0});
    report.settings["device"] = backend->description();
    report.settings["backbone"] = o.backbone;
    report.settings["crop"] = o.crop;
    report.settings["steps"] = o.steps;
    report.summary[prefix + "ms"] = 1e3 * all[0];
    report.summary[prefix + "network_ms"] = 1e3 * all[1];
    report.summary[prefix + "labels_ms"] = 1e3 * all[2];
    report.summary[prefix + "images_per_s"] = static_cast<double>(world.size()) / all[0];
    report.notes = {cat("medians of ", o.steps,
                        "; from 8-bit pixels in memory to 8-bit labels: files are neither read, "
                        "decoded nor written; each rank has an image of its own")};
    return report;
}

}  // namespace

Bench infer(CommandLine& program) {
    const auto o = std::make_shared<Options>();
    CommandLine& line = program.command("infer",
                                        "An image's labels, as evaluation and prediction compute "
                                        "them");
    add_model_options(line, *o);
    line.option("--steps", o->steps, "images counted; the median is given");
    line.option("--warmup", o->warmup, "not counted, first");
    return {&line, [o](comm::Communicator& world) { return measure(*o, world); }};
}

}  // namespace deeplab::bench
