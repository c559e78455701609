#pragma once
// What a weights file says of itself, as the string pairs of safetensors' __metadata__; private to
// this folder.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/weights/checkpoint.h"

namespace deeplab::weights {

using Metadata = std::vector<std::pair<std::string, std::string>>;

// "format" = "pt" as others have it, then ours: lists as JSON, numbers as the shortest text that
// gives them again.
Metadata to_metadata(const WeightsInfo& info);

// none when the file is not ours; DataError when it is, but does not describe a network.
std::optional<WeightsInfo> from_metadata(const Metadata& metadata);

const std::string* find(const Metadata& metadata, const std::string& key);

}  // namespace deeplab::weights
