#pragma once
// What rank 0 tells the user: lines or a progress bar, metrics.jsonl, TensorBoard, RUN/report/.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "deeplab/base/status_line.h"
#include "deeplab/data/shard.h"
#include "deeplab/evaluate/confusion.h"
#include "deeplab/io/tensorboard.h"
#include "deeplab/report/metrics_log.h"

namespace deeplab::report {

// The steps since the last report; times are means over ranks.
struct Interval {
    std::int64_t step = 0;  // the last one
    double loss = 0, learning_rate = 0;
    std::int64_t steps = 0, skipped = 0;
    double seconds = 0, data_wait_s = 0, comm_exposed_s = 0;
};

class Reporter {
public:
    // `first_step` updates were taken before this process; `images` are those of one optimizer
    // step.
    Reporter(const std::filesystem::path& run, std::int64_t first_step, std::int64_t iterations,
             std::int64_t images, const data::ClassTable& classes);

    // state_hash: empty where there is none.
    void steps(const Interval& interval, const std::string& state_hash);
    void evaluation(std::int64_t step, const std::string& split, const std::string& protocol,
                    const evaluate::Confusion& confusion, std::int64_t images,
                    const std::string& state_hash, double seconds);
    // Of the evaluation that is told next.
    void image(std::int64_t number, std::int64_t step, const io::Image& image);
    void line(const std::string& text);  // a message between lines of progress
    void finish();                       // the run's end: its report
    const MetricsLog& metrics() const { return metrics_; }

private:
    void guarded(bool& failed, const char* what, const std::function<void()>& work);

    std::filesystem::path run_;
    data::ClassTable classes_;
    std::vector<io::Image> pictures_;
    std::int64_t iterations_, images_;
    StatusLine status_;
    bool metrics_failed_ = false, events_failed_ = false, report_failed_ = false;
    MetricsLog metrics_;
    std::unique_ptr<io::EventWriter> events_;
};

}  // namespace deeplab::report
