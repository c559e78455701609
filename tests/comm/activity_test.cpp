#include "deeplab/comm/activity.h"

#include <gtest/gtest.h>

#include <string>

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

}  // namespace
}  // namespace deeplab::comm
