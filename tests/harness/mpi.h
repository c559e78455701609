#pragma once
// For *_mpi_test.cpp: the communicator of all ranks that the test program was started with (1, 2
// and 3 in ctest).

#include "deeplab/comm/communicator.h"

namespace deeplab::testing {

comm::Communicator& world();

}  // namespace deeplab::testing
