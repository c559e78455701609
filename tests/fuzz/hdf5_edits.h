#pragma once
// What an input changes in a well-formed HDF5 file, so that the file stays well-formed: libhdf5
// itself is not what is tested.

#include <filesystem>
#include <span>
#include <string>

#include <fuzzer/FuzzedDataProvider.h>

namespace deeplab::fuzz {

// Up to four changes of the objects `names` (a name with a "/" at its end: an object of a free name
// in that group). No input left means no change.
void apply_edits(FuzzedDataProvider& input, const std::filesystem::path& file,
                 std::span<const std::string> names);

// A text for which HDF5 has a place: without zero bytes.
std::string free_text(FuzzedDataProvider& input, std::size_t longest);

}  // namespace deeplab::fuzz
