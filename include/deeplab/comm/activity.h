#pragma once
// What this process's main thread is doing right now, for a watchdog that looks from another
// thread. The communicators tell the collectives by themselves; whoever drives them tells the
// phases around. One record a process; setting it costs an uncontended lock.

#include <cstdint>
#include <string>

namespace deeplab::comm {

struct Activity {
    std::uint64_t beats = 0;  // grows with every change: equal beats, no progress
    std::string phase;        // "reading data"; empty: none was told
    std::int64_t step = 0;    // of the phase, from 1; 0: of no step
    std::string collective;   // that the thread is inside of; empty: in none
};

Activity activity();

// The thread is in this phase while an object lives, then again in the one around it. `name` lives
// longer (a literal).
class Phase {
public:
    explicit Phase(const char* name, std::int64_t step = 0);
    ~Phase();
    Phase(const Phase&) = delete;
    Phase& operator=(const Phase&) = delete;

private:
    const char* outer_name_;
    std::int64_t outer_step_;
};

// Told of phases as they begin and end, on the thread whose they are: for a profiler's time line.
class PhaseObserver {
public:
    virtual ~PhaseObserver() = default;
    virtual void begin(const char* name, std::int64_t step) = 0;
    virtual void end() = 0;
};
// Outside of phases, and before there are other threads. Null: nobody.
void observe_phases(PhaseObserver* observer);

// The same for a collective: it waits for other ranks. `name` need not outlive the call.
class Collective {
public:
    explicit Collective(const char* name);
    ~Collective();
    Collective(const Collective&) = delete;
    Collective& operator=(const Collective&) = delete;
};

// Progress within a phase: one image of many, say.
void beat();

}  // namespace deeplab::comm
