#include "progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "deeplab/base/log.h"
#include "deeplab/base/text.h"

namespace deeplab::preprocess {

Progress::Progress(std::string label, std::int64_t total, bool shown)
    : label_(std::move(label)),
      total_(total),
      shown_(shown && total > 0),
      terminal_(isatty(STDERR_FILENO) == 1) {
    if (shown_ && terminal_) draw(0);
}

Progress::~Progress() {
    if (shown_ && terminal_) std::fputc('\n', stderr);
}

void Progress::step() {
    ++done_;
    if (!shown_) return;
    const std::int64_t percent = 100 * done_ / total_;
    if (percent < last_percent_ + (terminal_ ? 1 : 10) &&
        (done_ != total_ || percent == last_percent_))
        return;
    last_percent_ = percent;
    draw(percent);
}

void Progress::draw(std::int64_t percent) const {
    if (!terminal_) {
        log::info(cat(label_, ": ", percent, " %"));
        return;
    }
    constexpr std::int64_t width = 40;
    const auto filled = static_cast<std::size_t>(width * percent / 100);
    const std::string bar = std::string(filled, '#') + std::string(width - filled, '.');
    std::fprintf(stderr, "\r%s [%s] %3lld %%", label_.c_str(), bar.c_str(),
                 static_cast<long long>(percent));
    std::fflush(stderr);
}

}  // namespace deeplab::preprocess
