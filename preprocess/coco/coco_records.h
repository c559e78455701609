#pragma once
// A split whose masks are drawn from the annotations of a file of COCO's instances.

#include <memory>

#include "deeplab/comm/communicator.h"
#include "records.h"
#include "source.h"

namespace deeplab::preprocess::coco {

struct Opened {
    Source source;
    data::ClassTable classes;
    std::unique_ptr<Records> records;
};

// Collective: rank 0 reads and checks the file; every rank gets what is to be drawn. What is wrong
// stands among rank 0's findings.
Opened open(const PackOptions& options, comm::Communicator& comm);

}  // namespace deeplab::preprocess::coco
