#include "fibers.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include "context.h"

namespace deeplab::shim {
namespace {

constexpr int warp_size = 32;

enum class State { ready, at_block, at_warp, ended };

struct Thread {
    Extent index;
    State state = State::ended;
    std::source_location where;
    unsigned mask = 0;
    // An exchange in the warp: what it gives, whose it takes.
    std::array<std::byte, 8> given{}, taken{};
    std::size_t source = 0;  // lane
    std::unique_ptr<Context> context;
};

struct Block {
    std::vector<Thread> threads;  // kept from launch to launch: their stacks are
    std::size_t count = 0, current = 0;
    const std::function<void()>* body = nullptr;
    std::string failure;
    Context scheduler;
    std::unique_ptr<std::byte[]> shared;
};

Block& block() {
    static Block only;
    return only;
}

std::string name(const Extent& e) {
    std::ostringstream text;
    text << '(' << e.x << ',' << e.y << ',' << e.z << ')';
    return text.str();
}

std::string place(const Thread& t) {
    std::ostringstream text;
    text << "thread " << name(t.index);
    if (t.state == State::ended) {
        text << " has ended";
    } else {
        text << (t.state == State::at_warp ? " waits for its warp at " : " waits for its block at ")
             << t.where.file_name() << ':' << t.where.line();
    }
    return text.str();
}

void leave(Thread& t) { Context::change(*t.context, block().scheduler); }

void wait(State state, unsigned mask, const std::source_location& where) {
    Block& b = block();
    Thread& t = b.threads[b.current];
    t.state = state;
    t.mask = mask;
    t.where = where;
    leave(t);
}

// A thread's life: one run of the kernel after another.
void live(void* argument) {
    for (;;) {
        (*block().body)();
        Thread& t = block().threads[*static_cast<std::size_t*>(argument)];
        t.state = State::ended;
        leave(t);
    }
}

bool same_place(const Thread& a, const Thread& b) {
    return a.state == b.state && a.mask == b.mask && a.where.line() == b.where.line() &&
           a.where.column() == b.where.column() &&
           std::strcmp(a.where.file_name(), b.where.file_name()) == 0;
}

// Lanes whose whole mask waits at the same place exchange what they have and go on.
bool release_warps() {
    Block& b = block();
    bool any = false;
    for (std::size_t t = 0; t < b.count; ++t) {
        if (b.threads[t].state != State::at_warp) continue;
        const std::size_t first = t / warp_size * warp_size;
        const unsigned mask = b.threads[t].mask;
        std::vector<std::size_t> lanes;
        bool all = true;
        for (std::size_t lane = 0; lane < warp_size; ++lane) {
            if ((mask >> lane & 1u) == 0) continue;
            lanes.push_back(first + lane);
            all = all && first + lane < b.count &&
                  same_place(b.threads[t], b.threads[first + lane]);
        }
        if (!all || (mask >> (t - first) & 1u) == 0) continue;
        for (const std::size_t lane : lanes) {
            Thread& own = b.threads[lane];
            if ((mask >> own.source & 1u) == 0)
                b.failure = place(own) + ", for a value of a lane that is not in the mask";
            own.taken = b.threads[first + own.source].given;
        }
        for (const std::size_t lane : lanes) b.threads[lane].state = State::ready;
        any = true;
    }
    return any;
}

bool release_block() {
    Block& b = block();
    for (std::size_t t = 0; t < b.count; ++t) {
        if (b.threads[t].state != State::at_block || !same_place(b.threads[0], b.threads[t]))
            return false;
    }
    for (std::size_t t = 0; t < b.count; ++t) b.threads[t].state = State::ready;
    return true;
}

// Stacks with half a kernel on them are of no more use.
[[noreturn]] void fail(const Extent& block_index, const std::string& text) {
    block().threads.clear();
    throw Divergence("block " + name(block_index) + ": " + text);
}

std::string difference() {
    Block& b = block();
    const auto begin = b.threads.begin(), end = begin + static_cast<std::ptrdiff_t>(b.count);
    const auto waits = std::find_if(begin, end,
                                    [](const Thread& t) { return t.state != State::ended; });
    const auto other = std::find_if(begin, end,
                                    [&](const Thread& t) { return !same_place(*waits, t); });
    return place(*waits) +
           (other == end ? ", which lacks lanes of its mask" : ", " + place(*other));
}

void run_block(const Extent& index,
               const std::function<void(const Extent& block_index, const Extent& thread)>& place) {
    Block& b = block();
    for (std::size_t t = 0; t < b.count; ++t) b.threads[t].state = State::ready;
    for (;;) {
        for (std::size_t t = 0; t < b.count; ++t) {
            if (b.threads[t].state != State::ready) continue;
            b.current = t;
            place(index, b.threads[t].index);
            Context::change(b.scheduler, *b.threads[t].context);
        }
        const bool warps = release_warps();
        if (!b.failure.empty()) fail(index, std::exchange(b.failure, {}));
        if (warps || release_block()) continue;
        if (std::all_of(b.threads.begin(), b.threads.begin() + static_cast<std::ptrdiff_t>(b.count),
                        [](const Thread& t) { return t.state == State::ended; })) {
            return;
        }
        fail(index, difference());
    }
}

}  // namespace

void run_grid(const Extent& grid, const Extent& block_size, std::size_t shared_bytes,
              const std::function<void(const Extent& block_index, const Extent& thread)>& place,
              const std::function<void()>& body) {
    static std::array<std::size_t, 1024> numbers = [] {
        std::array<std::size_t, 1024> n{};
        for (std::size_t i = 0; i < n.size(); ++i) n[i] = i;
        return n;
    }();
    Block& b = block();
    b.count = static_cast<std::size_t>(block_size.x) * block_size.y * block_size.z;
    b.body = &body;
    b.shared = std::make_unique<std::byte[]>(shared_bytes);
    if (b.threads.size() < b.count) b.threads.resize(b.count);
    for (std::size_t t = 0; t < b.count; ++t) {
        const auto i = static_cast<unsigned>(t);
        b.threads[t].index = {i % block_size.x, i / block_size.x % block_size.y,
                              i / block_size.x / block_size.y};
        if (b.threads[t].context == nullptr)
            b.threads[t].context = std::make_unique<Context>(live, &numbers[t]);
    }
    for (unsigned z = 0; z < grid.z; ++z) {
        for (unsigned y = 0; y < grid.y; ++y) {
            for (unsigned x = 0; x < grid.x; ++x) {
                std::memset(b.shared.get(), 0xff, shared_bytes);
                run_block({x, y, z}, place);
            }
        }
    }
}

std::byte* dynamic_shared_memory() { return block().shared.get(); }

void wait_for_block(const std::source_location& where) { wait(State::at_block, 0, where); }

int lane() { return static_cast<int>(block().current % warp_size); }

void wait_for_warp(unsigned mask, const std::source_location& where) {
    block().threads[block().current].source = static_cast<std::size_t>(lane());
    wait(State::at_warp, mask, where);
}

void exchange_in_warp(unsigned mask, void* value, std::size_t bytes, int source,
                      const std::source_location& where) {
    const std::size_t own = block().current;
    std::memcpy(block().threads[own].given.data(), value, bytes);
    block().threads[own].source = static_cast<std::size_t>(source);
    wait(State::at_warp, mask, where);
    std::memcpy(value, block().threads[own].taken.data(), bytes);
}

}  // namespace deeplab::shim
