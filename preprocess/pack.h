#pragma once
// The packer: a list of images and masks becomes shards and a manifest.

#include "deeplab/comm/communicator.h"
#include "source.h"

namespace deeplab::preprocess {

// Collective. Returns 0, or 3 when records are bad: then nothing was written and the findings were
// printed.
int pack(const PackOptions& options, comm::Communicator& comm);

// Collective. Checks every record of every split in `dir`; 0, or 3 with a table of what is wrong.
int verify(const std::filesystem::path& dir, comm::Communicator& comm);

}  // namespace deeplab::preprocess
