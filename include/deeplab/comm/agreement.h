#pragma once
// Errors that one rank meets and all must end with.

#include <functional>

#include "deeplab/comm/communicator.h"

namespace deeplab::comm {

// Runs `body` where `mine` is true; an Error there is thrown on every rank, so that none waits for
// another. It names the first rank that met it, unless that is rank 0, which speaks for all.
void agreed(Communicator& control, bool mine, const char* what, const std::function<void()>& body);

}  // namespace deeplab::comm
