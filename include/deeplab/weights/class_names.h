#pragma once
// Whether the classes of weights are those of a data set. A classifier's outputs belong to names:
// the same number of classes says nothing.

#include <string>

#include "deeplab/data/shard.h"

namespace deeplab::weights {

struct ClassDifference {
    // "class 1 is "cat" in the weights and "dog" in the data"; "" when names and order are the
    // same.
    std::string text;
    bool moved = false;  // a name stands at another place: a rename cannot explain it

    explicit operator bool() const { return !text.empty(); }
};

ClassDifference compare_classes(const data::ClassTable& weights, const data::ClassTable& data);

}  // namespace deeplab::weights
