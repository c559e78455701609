#pragma once
// Does a mask's palette say the same as the classes' colours?

#include <string>
#include <vector>

#include "record.h"

namespace deeplab::preprocess {

// `values`: how often each index occurs. DataError where the colour of one class stands at the
// index of another, as an image editor leaves it that has numbered the colours anew: then either
// the indices or the colours are wrong. Returns what differs without such a contradiction, or "".
// A palette that is empty or a gray ramp says nothing; nor does a class without a colour.
std::string check_palette(const std::vector<io::Rgb>& palette, const Histogram& values,
                          const data::ClassFile& classes, const std::string& what);

}  // namespace deeplab::preprocess
