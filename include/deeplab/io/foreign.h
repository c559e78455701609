#pragma once
// Files that users give in place of weights, pictures or shards: what they are, by their first
// bytes, and what to do. A message that says "damaged" of a whole file of another kind is false.

#include <optional>
#include <span>
#include <string>

namespace deeplab::io {

struct ForeignFile {
    std::string what;    // "a Git LFS pointer, not the file itself"
    std::string remedy;  // "fetch the file itself: git lfs pull"
};

// `head`: the first bytes of a file, some hundreds are enough. None for what is not recognised.
std::optional<ForeignFile> foreign_file(std::span<const unsigned char> head);

}  // namespace deeplab::io
