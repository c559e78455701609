#include "streams.h"

#include <algorithm>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "record.h"

namespace deeplab::shim {
namespace {

std::vector<std::weak_ptr<Stream>>& alive() {
    static std::vector<std::weak_ptr<Stream>> all;
    return all;
}

std::size_t random_below(std::size_t n) {
    static std::mt19937 generator(7);
    return generator() % n;
}

// On the device's clock while work is done; negative: none is.
std::int64_t clock_now = -1;

std::int64_t host_time() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

std::int64_t end_of(const Point& point) {
    return point.items == 0 ? 0 : point.stream->items[point.items - 1].ended;
}

// While an object lives, the clock shows the time of the work that is done.
class Showing {
public:
    explicit Showing(std::int64_t time) : before_(std::exchange(clock_now, time)) {}
    ~Showing() { clock_now = before_; }
    Showing(const Showing&) = delete;
    Showing& operator=(const Showing&) = delete;

private:
    std::int64_t before_;
};

// False: the work waits for another process.
bool work(Stream& stream, const Stream::Item& item) {
    const std::int64_t begin = std::max(stream.now, item.enqueued);
    {
        const Showing showing(begin);
        if (!std::exchange(stream.begun, true)) {
            ++counts().work_at[stream.runs_at];
            item.work();
        }
        if (item.arrived && !item.arrived()) return false;
        stream.now = clock_now;  // of a graph: its end
    }
    if (item.graph)
        counts().graph_nanoseconds = stream.now - begin;
    else
        stream.now += item.takes;
    stream.begun = false;
    return true;
}

// False: the next item waits for another process.
bool advance(const StreamPointer& stream) {
    // A copy: more may be enqueued meanwhile.
    const Stream::Item item = stream->items[stream->done];
    if (item.work) {
        if (!work(*stream, item)) return false;
    } else {
        if (!try_to_reach(item.after)) return false;
        if (item.after.stream) stream->now = std::max(stream->now, end_of(item.after));
    }
    Stream::Item& done = stream->items[stream->done++];
    if (!stream->again) done = {};
    done.ended = stream->now;
    return true;
}

StreamPointer make_replayed(int priority) {
    auto stream = std::make_shared<Stream>();
    stream->again = true;
    stream->priority = priority;
    return stream;
}

void somebody_goes_on() {
    auto& all = alive();
    const StreamPointer stream = all[random_below(all.size())].lock();
    if (!stream) return;
    for (std::size_t n = random_below(4); n > 0 && stream->done < stream->items.size(); --n)
        if (!advance(stream)) return;
}

}  // namespace

std::shared_ptr<Graph> capturing;
Hang hang;

namespace {
std::chrono::steady_clock::time_point busy_until;
}

std::int64_t device_time() { return clock_now < 0 ? host_time() : clock_now; }

void look_busy(std::chrono::milliseconds time) {
    busy_until = std::chrono::steady_clock::now() + time;
}
bool looks_busy() { return std::chrono::steady_clock::now() < busy_until; }

namespace {

Schedule& chosen_schedule() {
    static Schedule chosen = [] {
        const char* text = std::getenv("DEEPLAB_TEST_STREAMS");
        const std::string name = text == nullptr ? "at-once" : text;
        if (name == "late") return Schedule::late;
        if (name == "shuffled") return Schedule::shuffled;
        if (name != "at-once") throw std::invalid_argument("DEEPLAB_TEST_STREAMS=" + name);
        return Schedule::at_once;
    }();
    return chosen;
}

}  // namespace

Schedule schedule() { return chosen_schedule(); }
OtherSchedule::OtherSchedule(Schedule schedule)
    : before_(std::exchange(chosen_schedule(), schedule)) {}
OtherSchedule::~OtherSchedule() { chosen_schedule() = before_; }

bool try_to_reach(const Point& point) {
    while (point.stream && point.stream->done < point.items)
        if (!advance(point.stream)) return false;
    return true;
}

void reach(const Point& point) {
    while (!try_to_reach(point)) std::this_thread::sleep_for(std::chrono::microseconds(20));
}

void reach_all() {
    for (const auto& weak : alive()) {
        if (const StreamPointer stream = weak.lock()) reach(stream->end(stream));
    }
}

namespace {
template <class Wanted>
bool is_pending(const Wanted& wanted) {
    return std::any_of(alive().begin(), alive().end(), [&](const std::weak_ptr<Stream>& weak) {
        const StreamPointer stream = weak.lock();
        if (!stream) return false;
        const auto next = stream->items.begin() + static_cast<std::ptrdiff_t>(stream->done);
        return std::any_of(next, stream->items.end(), wanted);
    });
}
}  // namespace

bool work_is_pending() {
    return is_pending([](const Stream::Item&) { return true; });
}
bool graph_is_pending() {
    return is_pending([](const Stream::Item& item) { return item.graph; });
}
bool step_is_pending() {
    return is_pending([](const Stream::Item& item) { return item.arrived != nullptr; });
}

bool work_uses(const Allocation& allocation) {
    for (const auto& weak : alive()) {
        const StreamPointer stream = weak.lock();
        for (std::size_t i = stream ? stream->done : 0; stream && i < stream->items.size(); ++i) {
            for (const auto& used : stream->items[i].uses)
                if (used.get() == &allocation) return true;
        }
    }
    return false;
}

void enqueue(const StreamPointer& stream, Stream::Item item) {
    item.enqueued = host_time();
    if (!stream) {
        const StreamPointer other = make_replayed(0);  // the default stream: done when it is
        other->items.push_back(std::move(item));
        reach(other->end(other));
        return;
    }
    stream->items.push_back(std::move(item));
    if (schedule() == Schedule::at_once) try_to_reach(stream->end(stream));
    if (schedule() == Schedule::shuffled) somebody_goes_on();
}

void Graph::begin(bool own_priorities, int priority) const {
    for (const auto& [handle, stream] : streams) {
        stream->done = 0;
        stream->begun = false;
        stream->now = clock_now;
        stream->runs_at = own_priorities ? stream->priority : priority;
    }
    if (schedule() != Schedule::shuffled) return;
    for (std::size_t n = 4 * origin->items.size(); n > 0; --n) {
        auto any = streams.begin();
        std::advance(any, random_below(streams.size()));
        if (any->second->done < any->second->items.size()) advance(any->second);
    }
}

bool Graph::go_on() const {
    if (!try_to_reach(origin->end(origin))) return false;
    clock_now = std::max(clock_now, origin->now);
    return true;
}

Uses Graph::uses() const {
    Uses all;
    for (const auto& [handle, stream] : streams) {
        for (const Stream::Item& item : stream->items)
            for (const auto& used : item.uses) use(all, used->begin);
    }
    return all;
}

bool Graph::joined() const {
    std::map<const Stream*, std::size_t> covered;
    const std::function<void(const Point&)> cover = [&](const Point& point) {
        std::size_t& done = covered[point.stream.get()];
        while (done < point.items) {
            const Stream::Item& item = point.stream->items[done++];
            if (!item.work) cover(item.after);
        }
    };
    cover(origin->end(origin));
    for (const auto& [handle, stream] : streams) {
        if (covered[stream.get()] < stream->items.size()) return false;
    }
    return true;
}

namespace {

StreamPointer captured(const CUstream_st* stream) {
    if (!capturing) return nullptr;
    const auto found = capturing->streams.find(stream);
    return found == capturing->streams.end() ? nullptr : found->second;
}

}  // namespace

StreamPointer place(const CUstream_st* stream) {
    if (const StreamPointer inside = captured(stream)) return inside;
    return stream == nullptr ? nullptr : stream->queue;
}

void enqueue(const CUstream_st* stream, Stream::Item item) {
    if (const StreamPointer inside = captured(stream))
        inside->items.push_back(std::move(item));
    else
        enqueue(place(stream), std::move(item));
}

bool record(CUevent_st& event, CUstream_st* stream) {
    const StreamPointer inside = captured(stream), queue = place(stream);
    if (event.timed && !inside) {
        event.reached = std::make_shared<std::chrono::nanoseconds>(0);
        Stream::Item item;
        item.work = [at = event.reached] { *at = std::chrono::nanoseconds(device_time()); };
        item.takes = 0;
        enqueue(stream, std::move(item));
    }
    event.point = queue->end(queue);
    event.within = inside ? capturing : nullptr;
    return true;
}

// A stream that waits for what a capture recorded becomes part of it. Neither the other way round:
// a captured stream has no events of outside, and they none of a capture.
bool wait(CUstream_st* stream, const CUevent_st& event) {
    const StreamPointer inside = captured(stream);
    if (event.within) {
        if (event.within != capturing) return false;
        StreamPointer& own = capturing->streams[stream];
        if (!own) own = make_replayed(stream->queue->priority);
        own->items.push_back({nullptr, event.point});
        return true;
    }
    if (!event.point.stream) return true;  // never recorded
    if (inside) return false;
    stream->queue->items.push_back({nullptr, event.point});
    if (schedule() == Schedule::at_once) try_to_reach(stream->queue->end(stream->queue));
    return true;
}

void begin_capture(const CUstream_st* stream) {
    // Its streams wait for each other, which keeps them in memory: they end with it.
    capturing = std::shared_ptr<Graph>(new Graph, [](Graph* graph) {
        for (const auto& [captured, own] : graph->streams) own->items.clear();
        delete graph;
    });
    capturing->origin = make_replayed(stream->queue->priority);
    capturing->streams[stream] = capturing->origin;
}

bool breaks_capture(const char* call) {
    if (capturing && capturing->broken.empty()) capturing->broken = call;
    return capturing != nullptr;
}

StreamPointer make_stream(int priority) {
    auto stream = std::make_shared<Stream>();
    stream->priority = stream->runs_at = priority;
    alive().push_back(stream);
    return stream;
}

}  // namespace deeplab::shim
