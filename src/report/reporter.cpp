#include "deeplab/report/reporter.h"

#include <cmath>

#include "data.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/report/report.h"

namespace deeplab::report {

namespace {

// What earlier processes wrote from this step on is void; -1 in a folder without event files.
std::int64_t purge_step(const std::filesystem::path& folder, std::int64_t first_step) {
    return std::filesystem::exists(folder) && !std::filesystem::is_empty(folder) ? first_step + 1
                                                                                 : -1;
}

}  // namespace

Reporter::Reporter(const std::filesystem::path& run, std::int64_t first_step,
                   std::int64_t iterations, std::int64_t images, const data::ClassTable& classes)
    : run_(run),
      classes_(classes),
      iterations_(iterations),
      images_(images),
      metrics_(run / "metrics.jsonl", first_step) {
    const std::filesystem::path folder = run / "tensorboard";
    const std::int64_t purge = purge_step(folder, first_step);
    std::filesystem::create_directories(folder);
    events_ = std::make_unique<io::EventWriter>(folder, purge);
}

void Reporter::steps(const Interval& v, const std::string& state_hash) {
    const double rate = v.seconds > 0 ? static_cast<double>(v.steps * images_) / v.seconds : 0;
    const double wait = v.seconds > 0 ? v.data_wait_s / v.seconds : 0,
                 exposed = v.seconds > 0 ? v.comm_exposed_s / v.seconds : 0;
    io::Object out;
    out["step"] = v.step;
    out["loss"] = v.loss;
    out["lr"] = v.learning_rate;
    out["images_per_s"] = rate;
    out["data_wait"] = wait;
    out["comm_exposed"] = exposed;
    if (v.skipped > 0) out["skipped"] = v.skipped;
    if (!state_hash.empty()) out["state_hash"] = state_hash;
    guarded(metrics_failed_, "metrics.jsonl", [&] { metrics_.append(out); });
    guarded(events_failed_, "TensorBoard log", [&] {
        if (std::isfinite(v.loss)) events_->scalar("train/loss", v.step, v.loss);
        events_->scalar("train/lr", v.step, v.learning_rate);
        events_->scalar("train/images_per_s", v.step, rate);
        events_->flush();
    });

    const double left = v.steps > 0 ? static_cast<double>(iterations_ - v.step) * v.seconds /
                                          static_cast<double>(v.steps)
                                    : 0;
    const std::string text = cat("step ", v.step, "/", iterations_, "  loss ", fixed(v.loss, 4),
                                 "  lr ", fixed(v.learning_rate, 5), "  ", fixed(rate, 1),
                                 " images/s  data-wait ", fixed(100 * wait, 0), " %  ETA ",
                                 human_seconds(left),
                                 v.skipped > 0 ? cat("  skipped ", v.skipped) : "");
    if (!status_.visible()) {
        log::info(text);
        return;
    }
    const double done = static_cast<double>(v.step) / static_cast<double>(iterations_);
    status_.write(cat(progress_bar(done, 20), " ", text));
    if (v.step == iterations_) line("");
}

void Reporter::line(const std::string& text) {
    status_.keep();
    if (!text.empty()) log::info(text);
}

void Reporter::evaluation(std::int64_t step, const std::string& split, const std::string& protocol,
                          const evaluate::Confusion& confusion, std::int64_t images,
                          const std::string& state_hash, double seconds) {
    const evaluate::Metrics m = confusion.metrics();
    io::Object out;
    out["step"] = step;
    out["split"] = split;
    out["protocol"] = protocol;
    out["pixel_accuracy"] = m.pixel_accuracy;
    out["mean_pixel_accuracy"] = m.mean_pixel_accuracy;
    out["miou"] = m.miou;
    out["fwiou"] = m.fwiou;
    io::Array per_class;
    for (const double iou : m.class_iou)
        per_class.emplace_back(iou);  // null: in neither truth nor prediction
    out["class_iou"] = per_class;
    out["images"] = images;
    out["state_hash"] = state_hash;
    guarded(metrics_failed_, "metrics.jsonl", [&] { metrics_.append(out); });
    guarded(events_failed_, "TensorBoard log", [&] {
        events_->scalar("val/miou", step, m.miou);
        events_->scalar("val/pixel_accuracy", step, m.pixel_accuracy);
        events_->scalar("val/mean_pixel_accuracy", step, m.mean_pixel_accuracy);
        events_->scalar("val/fwiou", step, m.fwiou);
        events_->flush();
    });
    line(cat("evaluation at step ", step, " on ", split, " (", protocol, ", ", images,
             " images): mIoU ", fixed(m.miou, 4), "  pixel accuracy ", fixed(m.pixel_accuracy, 4),
             "  in ", human_seconds(seconds)));
    guarded(report_failed_, "report", [&] {
        std::filesystem::create_directories(run_ / "report");
        for (std::size_t i = 0; i < pictures_.size(); ++i) {
            const auto bytes = io::encode_jpeg(pictures_[i], 92);
            write_atomically(picture_path(run_, static_cast<std::int64_t>(i)),
                             {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        }
        write_atomically(run_ / "report/evaluation.json",
                         evaluation_json(step, state_hash, classes_, confusion,
                                         static_cast<std::int64_t>(pictures_.size())));
        write_report(run_, run_ / "report");
    });
    pictures_.clear();
}

void Reporter::image(std::int64_t number, std::int64_t step, const io::Image& image) {
    guarded(events_failed_, "TensorBoard log",
            [&] { events_->image(cat("val/image_", number), step, image); });
    pictures_.push_back(image);
}

void Reporter::finish() {
    line("");
    guarded(metrics_failed_, "metrics.jsonl", [&] { metrics_.flush(); });
    std::error_code ignored;
    if (std::filesystem::file_size(run_ / "metrics.jsonl", ignored) == 0) return;  // stopped early
    guarded(report_failed_, "report", [&] { write_report(run_, run_ / "report"); });
}

// The run is worth more than what it tells of itself. A full disk is told of once, until it has
// room again.
void Reporter::guarded(bool& failed, const char* what, const std::function<void()>& work) {
    try {
        work();
        failed = false;
    } catch (const std::exception& error) {
        if (!failed) {
            line("");
            log::warn(cat("the run's ", what, " could not be written: ", error.what()));
        }
        failed = true;
    }
}

}  // namespace deeplab::report
