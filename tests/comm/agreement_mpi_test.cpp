#include "deeplab/comm/agreement.h"

#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "harness/messages.h"
#include "harness/mpi.h"

namespace deeplab::comm {
namespace {

using testing::world;

TEST(Agreed, AnErrorOfOneRankIsThrownOnAll) {
    for (int failing = 0; failing < world().size(); ++failing) {
        const std::string text = testing::message_of<DataError>([&] {
            agreed(world(), true, "a test", [&] {
                if (world().rank() == failing) throw DataError("it is damaged");
            });
        });
        const std::string who = failing == 0 ? "" : cat("rank ", failing, " (", log::host(), "): ");
        EXPECT_EQ(text, who + "it is damaged");
    }
}

TEST(Agreed, TheFirstOfSeveralErrorsIsThrown) {
    const std::string text = testing::message_of<UsageError>([&] {
        agreed(world(), true, "a test", [&] {
            if (world().rank() == 0) throw UsageError("rank 0's");
            throw DataError("another's");
        });
    });
    EXPECT_EQ(text, "rank 0's");
}

TEST(Agreed, OnlyThoseConcernedDoIt) {
    int done = 0;
    agreed(world(), world().rank() == 0, "a test", [&] { ++done; });
    EXPECT_EQ(done, world().rank() == 0 ? 1 : 0);
}

}  // namespace
}  // namespace deeplab::comm
