#include "deeplab/io/features.h"

#include <algorithm>

#include "deeplab/base/text.h"
#include "deeplab/base/version.h"

namespace deeplab::io {

void refuse_feature(const std::string& file, const std::string& feature) {
    throw NewerFile(cat(file, " needs a program that knows ", feature, ", and this one (version ",
                        version(),
                        ") does not — it would take the file for something else — use the version "
                        "of deeplab-hpc that wrote it, or a newer one"));
}

void check_features(const Value& required, std::span<const std::string> known,
                    const std::string& file) {
    const auto fail = [] { throw DataError("its \"requires\" is no list of names"); };
    const auto* names = required.get_if<Array>();
    if (names == nullptr) fail();
    for (const Value& entry : *names) {
        const auto* name = entry.get_if<std::string>();
        if (name == nullptr) fail();
        if (std::find(known.begin(), known.end(), *name) == known.end())
            refuse_feature(file, cat("\"", *name, "\""));
    }
}

}  // namespace deeplab::io
