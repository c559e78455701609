#include "deeplab/comm/activity.h"

#include <mutex>

namespace deeplab::comm {
namespace {

struct Record {
    std::mutex mutex;
    std::uint64_t beats = 0;
    const char* phase = "";
    std::int64_t step = 0;
    std::string collective;  // keeps its memory: no allocation once it has held the longest name
};

Record& record() {
    static Record instance;
    return instance;
}

PhaseObserver* observer = nullptr;

}  // namespace

void observe_phases(PhaseObserver* given) { observer = given; }

Activity activity() {
    Record& r = record();
    const std::lock_guard lock(r.mutex);
    return {r.beats, r.phase, r.step, r.collective};
}

Phase::Phase(const char* name, std::int64_t step) {
    if (observer != nullptr) observer->begin(name, step);
    Record& r = record();
    const std::lock_guard lock(r.mutex);
    outer_name_ = r.phase;
    outer_step_ = r.step;
    r.phase = name;
    r.step = step;
    ++r.beats;
}

Phase::~Phase() {
    if (observer != nullptr) observer->end();
    Record& r = record();
    const std::lock_guard lock(r.mutex);
    r.phase = outer_name_;
    r.step = outer_step_;
    ++r.beats;
}

Collective::Collective(const char* name) {
    Record& r = record();
    const std::lock_guard lock(r.mutex);
    r.collective = name;
    ++r.beats;
}

Collective::~Collective() {
    Record& r = record();
    const std::lock_guard lock(r.mutex);
    r.collective.clear();
    ++r.beats;
}

void beat() {
    Record& r = record();
    const std::lock_guard lock(r.mutex);
    ++r.beats;
}

}  // namespace deeplab::comm
