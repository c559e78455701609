#pragma once
// Options of a run on the tiny data set in DIR/data, into DIR/run.

#include <filesystem>
#include <string>
#include <vector>

#include "deeplab/train/run_training.h"
#include "harness/tiny_dataset.h"

namespace deeplab::testing {

// `lines` of TOML stand behind tiny_config, `overrides` ("data.crop=65") replace what stands there.
inline train::TrainOptions tiny_run(const std::filesystem::path& dir, const std::string& lines,
                                    const std::vector<std::string>& overrides = {}) {
    train::TrainOptions options;
    options.config = config::parse_config(tiny_config("resnet18") + lines, "test", overrides);
    options.config.model.width_divisor = 8;
    options.data = dir / "data";
    options.run = dir / "run";
    return options;
}

}  // namespace deeplab::testing
