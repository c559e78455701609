#pragma once
// A record of a shard, decoded, its labels checked against the classes: what augmentation starts
// from.

#include <cstdint>

#include "deeplab/data/loader.h"
#include "deeplab/data/shard.h"
#include "stage_clock.h"

namespace deeplab::data {

// `index` of the record in the split. DataError names record and shard. Without `pixels` the image
// has its size alone.
void decode(const Manifest& manifest, std::int64_t index, Record& record, bool pixels,
            StageClock& clock, LabelledImage& out);

}  // namespace deeplab::data
