// A program that ends well though a stand-in had something to complain about has not.
#include <unistd.h>

#include <cstdlib>

#include "comm/nccl/fake_nccl.h"
#include "cuda/shim/record.h"

namespace deeplab::testing {
namespace {

constexpr int complained = 99;

const bool listening = [] {
    seen(), shim::counts(), shim::take_complaints();  // live longer than the handler's turn
    return std::atexit([] {
               if (!seen().broken.empty() || !shim::take_complaints().empty()) _exit(complained);
           }) == 0;
}();

}  // namespace
}  // namespace deeplab::testing
