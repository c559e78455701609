#pragma once
// What a weights file says of itself, as the string pairs of safetensors' __metadata__; private to
// this folder.

#include <optional>
#include <string>

#include "stored_fields.h"

namespace deeplab::weights {

using Metadata = Texts;

// "format" = "pt" as others have it, then ours: lists as JSON, numbers as the shortest text that
// gives them again.
Metadata to_metadata(const WeightsInfo& info);

// none when `file` is not ours; DataError when it is, but does not describe a network;
// io::NewerFile when that takes a newer program.
std::optional<WeightsInfo> from_metadata(const Metadata& metadata, const std::string& file);

const std::string* find(const Metadata& metadata, const std::string& key);

}  // namespace deeplab::weights
