#pragma once
// The zip archives that PyTorch writes: stored entries only, zip64 included. Private to this
// folder. An own reader rather than a library: nothing is decompressed, and entries stay where they
// are in memory, so that a tensor's bytes are not copied.

#include <cstdint>
#include <string>
#include <vector>

#include "tensor_file.h"

namespace deeplab::io {

struct ZipEntry {
    std::string name;
    Bytes bytes;            // of a stored entry
    std::uint32_t crc = 0;  // as the archive claims
    bool stored = true;     // false: compressed, which nothing here undoes
};

// All entries, names distinct, bytes within the file. Refuses what it does not know.
std::vector<ZipEntry> read_zip(Bytes file, const std::string& what);

// Refuses an entry that is compressed, or whose bytes have another checksum than the archive
// claims.
void check_crc(const ZipEntry& entry, const std::string& what);

}  // namespace deeplab::io
