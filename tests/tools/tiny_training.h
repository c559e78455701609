#pragma once
// deeplab-train on the tiny data set, as a user starts it.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "harness/process.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab::testing {

class TinyTraining : public ::testing::Test {
protected:
    // Makes the split "train", and a configuration of these lines behind tiny_config. The programs
    // train at full width: the smallest backbone has a quarter of resnet18's parameters to write.
    void prepare(const std::string& lines) const {
        write_tiny_dataset(dir_ / "data", {.split = "train"});
        write_atomically(dir_ / "config.toml", cat(tiny_config("mobilenet_v2"),
                                                   "data.resize = {mode = \"none\"}\n", lines));
    }

    // The usual options, unless `more` gives them another value.
    std::vector<std::string> command(const std::vector<std::string>& more) const {
        std::vector<std::string> all = {program("deeplab-train")};
        for (const auto& [option, value] :
             {std::pair{"--config", "config.toml"}, {"--data", "data"}, {"--out", "run"}}) {
            if (std::find(more.begin(), more.end(), option) != more.end()) continue;
            all.insert(all.end(), {option, (dir_ / value).string()});
        }
        all.insert(all.end(), {"--threads", "1"});
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }

    TempDir dir_;
};

}  // namespace deeplab::testing
