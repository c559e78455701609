#pragma once
// What a checkpoint says of itself, as attributes and small datasets; private to this folder.

#include <cstdint>
#include <string>

#include "deeplab/io/hdf5.h"
#include "deeplab/weights/checkpoint.h"

namespace deeplab::weights {

void write_info(io::Hdf5Writer& file, const WeightsInfo& info);
// `name` is the file in messages. DataError when it describes no network, io::NewerFile when that
// takes a newer program.
WeightsInfo read_info(const io::Hdf5Reader& file, const std::string& name);

std::uint64_t hash_text(const std::string& text, std::uint64_t seed);
// Over everything in the file, of whose tensors `state` is the hash: HDF5 itself notices few
// flipped bits. Optional attributes stay out of it: programs that do not know them find the same
// hash.
std::uint64_t content_hash(std::uint64_t state, const WeightsInfo& info);

}  // namespace deeplab::weights
