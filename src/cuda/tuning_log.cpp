#include "tuning_log.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include "deeplab/base/log.h"
#include "deeplab/base/text.h"

namespace deeplab::cuda {
namespace {

constexpr const char*
    columns = "convolution\tplace\tof\tengine\tknobs\tnotes\tworkspace\tbuild_s\tms\tresult\n";

std::string one_field(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](char c) { return c == '\t' || c == '\n' || c == '\r'; }, ' ');
    return text;
}

}  // namespace

TuningLog::TuningLog(std::filesystem::path file) : file_(std::move(file)) {}

void TuningLog::append(const std::string& key, const SearchResult& result) {
    if (file_.empty()) return;
    std::string text;
    for (std::size_t i = 0; i < result.attempts.size(); ++i) {
        const Attempt& a = result.attempts[i];
        const std::string how = !a.left_out.empty()  ? one_field(a.left_out)
                                : i == result.chosen ? "chosen"
                                                     : "slower";
        text += cat(key, "\t", a.place, "\t", result.candidates, "\t", a.candidate.choice.engine,
                    "\t", knobs_text(a.candidate.choice), "\t", a.candidate.notes, "\t",
                    a.workspace < 0 ? std::string() : cat(a.workspace), "\t",
                    fixed(a.build_seconds, 4), "\t",
                    a.milliseconds > 0 ? fixed(a.milliseconds, 4) : std::string(), "\t", how, "\n");
    }
    std::ofstream out(file_, std::ios::app);
    if (out.tellp() == 0) out << columns;
    out << text << std::flush;
    if (out) return;
    log::warn(cat("cannot write ", file_.string(),
                  " — what is tried for the convolutions is not recorded — name another file by "
                  "DEEPLAB_TUNING_LOG"));
    file_.clear();
}

}  // namespace deeplab::cuda
