#pragma once
// Streams, events and graphs of the stand-in. What is enqueued on a stream is done at once, or, to
// show what nobody waits for, as late as it may be or at a random time: a stream goes on only as
// far as somebody (the host, an event that another stream waits for) needs it. Work may wait for
// another process: then its stream stays there, and who asks whether it is done is told no. A
// captured graph keeps the order that its streams and events give, and no more; and the streams'
// priorities, where it is told to.
//
// The device has a clock of its own, which does not depend on when work is done: a stream's next
// work begins when the one before it, what it waits for, and the host's call are over, and takes
// what its item says.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "memory.h"

namespace deeplab::shim {

enum class Schedule { at_once, late, shuffled };
// DEEPLAB_TEST_STREAMS: at-once (default), late, shuffled; or, while an object lives, another one.
Schedule schedule();
class OtherSchedule {
public:
    explicit OtherSchedule(Schedule schedule);
    ~OtherSchedule();
    OtherSchedule(const OtherSchedule&) = delete;
    OtherSchedule& operator=(const OtherSchedule&) = delete;

private:
    Schedule before_;
};

struct Stream;
using StreamPointer = std::shared_ptr<Stream>;

// A place in a stream: all that was enqueued there before.
struct Point {
    StreamPointer stream;
    std::size_t items = 0;
};

struct Stream {
    struct Item {
        std::function<void()> work;
        Point after;  // instead of work: waits for it
        Uses uses = {};
        std::function<bool()> arrived = {};  // asked after the work, until it says yes
        bool graph = false;                  // a graph's launch
        std::int64_t takes = 1000;           // the device's nanoseconds; waits take none
        std::int64_t enqueued = 0, ended = 0;
    };
    bool again = false;             // a graph's: its items stay for the next launch
    int priority = 0, runs_at = 0;  // as it was made; as its work is done
    std::vector<Item> items;
    std::size_t done = 0;
    bool begun = false;    // the work of the next item has been done, and has not arrived
    std::int64_t now = 0;  // on the device's clock: what was done has ended

    Point end(const StreamPointer& self) const { return {self, items.size()}; }
};

// A capture under way, then a graph: streams of its own in the places of those captured.
struct Graph {
    StreamPointer origin;
    std::map<const void*, StreamPointer> streams;  // by the stream that was captured
    // Until the capture ends; then CUDA's handles of the graph keep it, and so tell that it lives.
    std::shared_ptr<const void> life = std::make_shared<int>();
    std::string broken;  // by a call that no capture may meet

    // At the priorities of the streams that were captured, or at one for all.
    void begin(bool own_priorities, int priority) const;
    bool go_on() const;   // as far as it comes; true: to its end
    bool joined() const;  // the origin waits for everything
    Uses uses() const;
};
extern std::shared_ptr<Graph> capturing;
// What allocates, frees, waits or asks is refused during a capture, which cannot be ended then.
bool breaks_capture(const char* call);

// Work on the device waits for something that never comes, such as another rank's: queries say that
// nothing is ready, and who waits for a stream or an event would do so for ever.
struct Hang {
    bool now = false;
    int waits = 0;  // meanwhile
};
extern Hang hang;

StreamPointer make_stream(int priority);
// Does what is missing until the point is reached, or work waits for another process.
bool try_to_reach(const Point& point);
void reach(const Point& point);  // however long that takes
void reach_all();
bool work_is_pending();
bool graph_is_pending();
bool step_is_pending();                        // a graph, or work that waits for another process
bool work_uses(const Allocation& allocation);  // pending work
// The device's nanoseconds: of the work that is being done, else the host's.
std::int64_t device_time();
// For this long, a device that is asked whether it has finished says no.
void look_busy(std::chrono::milliseconds time);
bool looks_busy();
// Of a stream outside captures; null: at once, as the default stream's.
void enqueue(const StreamPointer& stream, Stream::Item item);

}  // namespace deeplab::shim

// Handles as cuda_runtime.h has them.
struct CUstream_st {
    deeplab::shim::StreamPointer queue;
};
struct CUevent_st {
    bool timed = true;
    deeplab::shim::Point point = {};                    // none: not recorded
    std::shared_ptr<deeplab::shim::Graph> within = {};  // the capture that recorded it
    // When it was reached, on the device's clock; of a timed one. Zero: not yet.
    std::shared_ptr<std::chrono::nanoseconds> reached = {};
};
struct CUgraph_st {
    std::shared_ptr<deeplab::shim::Graph> graph;
    std::shared_ptr<const void> life;
    unsigned flags = 0;  // of the instantiation
    deeplab::shim::Uses uses = {};
};

namespace deeplab::shim {

// Where something enqueued on the stream goes: into the capture, where the stream is part of it.
StreamPointer place(const CUstream_st* stream);
void enqueue(const CUstream_st* stream, Stream::Item item);
inline void enqueue(const CUstream_st* stream, std::function<void()> work, Uses uses = {}) {
    enqueue(stream, Stream::Item{std::move(work), {}, std::move(uses)});
}
void begin_capture(const CUstream_st* stream);
bool record(CUevent_st& event, CUstream_st* stream);
bool wait(CUstream_st* stream, const CUevent_st& event);  // false: as CUDA would refuse it

}  // namespace deeplab::shim
