#pragma once
// How files grow without a new version of their format. A file names the features that a reader
// must have (`requires`, a list of names); whatever else a reader does not know in it is read over.

#include <span>
#include <string>

#include "deeplab/base/error.h"
#include "deeplab/io/value.h"

namespace deeplab::io {

// A whole file that needs a program that can do more: not damage, and nothing to write over.
struct NewerFile : DataError {
    using DataError::DataError;
};

[[noreturn]] void refuse_feature(const std::string& file, const std::string& feature);  // NewerFile

// NewerFile naming the first feature of `required` that is none of `known`; DataError with the mere
// problem when it is no list of names. `file` says which: "checkpoint DIR/latest.h5".
void check_features(const Value& required, std::span<const std::string> known,
                    const std::string& file);

}  // namespace deeplab::io
