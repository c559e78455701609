#pragma once
// What is wrong with the input, record by record: collected over all ranks and shown in one table.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deeplab/comm/communicator.h"

namespace deeplab::preprocess {

struct Finding {
    std::int64_t order = 0;  // position in the list: the table is sorted by it
    std::string record, file, reason;
};

// The part of an error message that says what is wrong; the table has columns for where.
std::string reason_of(const std::exception& error, const std::string& file);

// Collective: every rank's findings, sorted, on every rank.
std::vector<Finding> gather(comm::Communicator& comm, const std::vector<Finding>& own);

// To be printed: at most 50 lines and how many more there are. Where `file` is given, a longer
// table is written there whole, and the text says so.
std::string table(const std::vector<Finding>& findings, const std::filesystem::path& file = {});

}  // namespace deeplab::preprocess
