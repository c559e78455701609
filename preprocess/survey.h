#pragma once
// The packer's first pass: every record is read and decoded once, spread over the ranks, before
// anything is written.

#include <cstdint>
#include <vector>

#include "deeplab/comm/communicator.h"
#include "findings.h"
#include "records.h"
#include "source.h"

namespace deeplab::preprocess {

// The same on all ranks.
struct Survey {
    // Of each entry: what a shard will say of it; bytes 0: missing, bad, or left out by a rule of
    // the source.
    std::vector<data::RecordSummary> records;
    ClassCounts counts{0};
    // unlabelled: images without a pixel that has a label.
    std::vector<Finding> missing, findings, unlabelled;
    ForeignLabels foreign;  // of all masks
    // Masks whose palette differs from the classes' colours, and what differs in some of them.
    std::int64_t other_palettes = 0;
    std::vector<Finding> palette_notes;

    std::int64_t total_bytes() const;  // of the records with a summary
};

// Collective.
Survey survey(Source& source, Records& records, const data::ClassTable& classes,
              const PackOptions& options, comm::Communicator& comm);

}  // namespace deeplab::preprocess
