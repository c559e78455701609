#include "deeplab/comm/activity.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

namespace deeplab::comm {
namespace {

class Diary final : public PhaseObserver {
public:
    std::string text;
    void begin(const char* name, std::int64_t step) override {
        text += std::string(name) + " " + std::to_string(step) + " (";
    }
    void end() override { text += ")"; }
};

TEST(Activity, ObserversSeePhasesWithinPhases) {
    Diary diary;
    observe_phases(&diary);
    {
        const Phase outer("training", 3);
        { const Phase inner("reading data", 3); }
        EXPECT_EQ(activity().phase, "training");
        const Phase inner("forward", 3);
    }
    observe_phases(nullptr);
    { const Phase unseen("evaluation", 4); }
    EXPECT_EQ(diary.text, "training 3 (reading data 3 ()forward 3 ())");
}

// A watchdog's thread looks while collectives begin and end: it sees one name, whole, or none. One
// within another changes a name that is there.
TEST(Activity, IsSeenWholeFromAnotherThread) {
    const std::string first(1 << 14, 'a'), second(1 << 14, 'b');
    std::atomic<bool> over = false;
    std::thread worker([&] {
        while (!over) {
            const Collective outer(first.c_str());
            const Collective inner(second.c_str());
        }
    });
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
    std::int64_t torn = 0;
    while (torn == 0 && std::chrono::steady_clock::now() < end) {
        const std::string seen = activity().collective;
        if (!seen.empty() && seen != first && seen != second) ++torn;
    }
    over = true;
    worker.join();
    EXPECT_EQ(torn, 0);
}

}  // namespace
}  // namespace deeplab::comm
