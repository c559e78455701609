#pragma once
// Progress on stderr: a bar on a terminal, else a line about every tenth. Rank 0's share stands for
// all.

#include <cstdint>
#include <string>

#include "deeplab/base/status_line.h"

namespace deeplab::preprocess {

class Progress {
public:
    Progress(std::string label, std::int64_t total, bool shown);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void step();

private:
    void draw(std::int64_t percent);

    std::string label_;
    std::int64_t total_, done_ = 0, last_percent_ = 0;
    bool shown_;
    StatusLine status_;
};

}  // namespace deeplab::preprocess
