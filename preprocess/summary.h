#pragma once
// What a split is as a whole, where every record for itself is good.

#include <string>
#include <vector>

#include "deeplab/data/shard.h"
#include "survey.h"

namespace deeplab::preprocess {

// Pixels and images of each class, and the share of ignored pixels.
std::string class_table(const data::Manifest& manifest);

// What a user should know before training, one message each. `default_classes`: VOC's were taken,
// as none were given.
std::vector<std::string> warnings(const data::Manifest& manifest, const Survey& found,
                                  bool default_classes);

// Why the split is of no use: no pixel has a label or, of a list to train on, all have the same.
// "" where it is of use.
std::string refusal(const data::Manifest& manifest);

// What to write into the --classes file so that labels without a class have a meaning; "" where
// there are none.
std::string advice(const ForeignLabels& foreign, const data::ClassFile& classes);

}  // namespace deeplab::preprocess
