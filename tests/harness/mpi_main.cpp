// main() of the test programs that run under mpirun: every rank runs every test, and a failure on
// any rank fails the run.
#include <gtest/gtest.h>

#include <cstdio>

#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "harness/mpi.h"

namespace deeplab::testing {
namespace {
comm::Communicator* world_of_tests = nullptr;
}

comm::Communicator& world() { return *world_of_tests; }

}  // namespace deeplab::testing

int main(int argc, char** argv) {
    deeplab::comm::MpiSession session(&argc, &argv);
    ::testing::InitGoogleTest(&argc, argv);
    deeplab::testing::world_of_tests = &session.world();
    // One voice is enough while all is well; failures of the others are told below.
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    if (session.world().rank() != 0) {
        struct FailuresOnly : ::testing::EmptyTestEventListener {
            void OnTestPartResult(const ::testing::TestPartResult& result) override {
                if (!result.failed()) return;
                std::fprintf(stderr, "[rank %d] %s:%d: %s\n", deeplab::testing::world().rank(),
                             result.file_name() != nullptr ? result.file_name() : "?",
                             result.line_number(), result.summary());
            }
        };
        delete listeners.Release(listeners.default_result_printer());
        listeners.Append(new FailuresOnly);
    }
    return deeplab::comm::run_guarded(session, [] { return RUN_ALL_TESTS(); });
}
