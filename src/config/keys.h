#pragma once
// The table of configuration keys.

#include "deeplab/config/config.h"
#include "deeplab/config/fields.h"

namespace deeplab::config {

// Groups whose weight decay is not written take the optimizer's, which may be read later.
constexpr float unset_weight_decay = -1.0f;

using Key = Field<Config>;

const Fields<Config>& all_keys();

}  // namespace deeplab::config
