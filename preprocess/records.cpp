#include "records.h"

#include "deeplab/base/text.h"

namespace deeplab::preprocess {

std::string FileRecords::nothing_left() const {
    return cat("no id of the list has image and mask (", source_.images.path().string(), ", ",
               source_.masks.path().string(), ") — there is nothing to pack — check the folders");
}

std::string FileRecords::remedy() const {
    return "correct them; --missing skip leaves out ids whose files are missing; a list may have "
           "two columns, IMAGE MASK, where names differ, and --image-suffix and --mask-suffix name "
           "what stands behind the id";
}

}  // namespace deeplab::preprocess
