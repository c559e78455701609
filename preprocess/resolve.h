#pragma once
// From a line of a list to an image and its mask.

#include <filesystem>
#include <string>

#include "source.h"

namespace deeplab::preprocess {

struct Resolved {
    Entry entry;
    std::string problem;   // not empty: the line cannot be used, and why
    bool comment = false;  // the line begins with # and names no image
};

// A line is an id, the name of an image or mask, or both names in two columns; names may have the
// folders that lead to them. What is taken is a file that the line names; nothing is guessed.
Resolved resolve(const std::string& line, Folder& images, Folder& masks);

// The same of an id that is no line of a list but the name of a file.
Resolved resolve_id(const std::string& id, Folder& images, Folder& masks);
// The same of an id that Folder::ids_below gave: the files are its alone.
Resolved resolve_found(const std::string& id, Folder& images, Folder& masks);

}  // namespace deeplab::preprocess
