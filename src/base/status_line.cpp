#include "deeplab/base/status_line.h"

#include <unistd.h>

#include <cstdio>

namespace deeplab {

StatusLine::StatusLine(bool wanted) : visible_(wanted && isatty(STDERR_FILENO) == 1) {}

void StatusLine::write(const std::string& text) {
    if (!visible_) return;
    // The rest of a longer text that stood there is erased.
    std::fprintf(stderr, "\r%s\033[K", text.c_str());
    std::fflush(stderr);
    written_ = true;
}

void StatusLine::keep() {
    if (written_) std::fputc('\n', stderr);
    written_ = false;
}

void StatusLine::clear() {
    if (written_) write("");
    written_ = false;
}

std::string progress_bar(double done, int width) {
    const auto full = static_cast<std::size_t>(done * width);
    return "[" + std::string(full, '=') + std::string(static_cast<std::size_t>(width) - full, ' ') +
           "]";
}

}  // namespace deeplab
