#pragma once
// Members of a manifest beside those of every split: how the split was made. Programs read over
// them (io/features.h); people and scripts do not.

#include <filesystem>

#include "deeplab/data/shard.h"
#include "deeplab/io/value.h"

namespace deeplab::data {

// As save_manifest of shard.h, with `more` behind its members. None of their names is one of those.
void save_manifest(const std::filesystem::path& dir, const Manifest& manifest,
                   const io::Object& more);

}  // namespace deeplab::data
