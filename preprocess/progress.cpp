#include "progress.h"

#include <utility>

#include "deeplab/base/log.h"
#include "deeplab/base/text.h"

namespace deeplab::preprocess {

Progress::Progress(std::string label, std::int64_t total, bool shown)
    : label_(std::move(label)), total_(total), shown_(shown && total > 0), status_(shown_) {
    if (status_.visible()) draw(0);
}

Progress::~Progress() { status_.keep(); }

void Progress::step() {
    ++done_;
    if (!shown_) return;
    const std::int64_t percent = 100 * done_ / total_;
    if (percent < last_percent_ + (status_.visible() ? 1 : 10) &&
        (done_ != total_ || percent == last_percent_))
        return;
    last_percent_ = percent;
    draw(percent);
}

void Progress::draw(std::int64_t percent) {
    if (!status_.visible()) {
        log::info(cat(label_, ": ", percent, " %"));
        return;
    }
    const double done = static_cast<double>(percent) / 100;
    status_.write(
        cat(label_, " ", progress_bar(done, 40), " ", right_aligned(cat(percent), 3), " %"));
}

}  // namespace deeplab::preprocess
