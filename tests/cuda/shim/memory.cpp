#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <utility>

#include "device.h"
#include "record.h"
#include "streams.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace deeplab::shim {
namespace {

struct Room {
    std::size_t total = std::size_t{1} << 33, taken = 0;
};

struct Memory {
    std::map<const std::byte*, std::shared_ptr<Allocation>, std::less<>> allocations;
    // Kept for a while, so that nobody else has their addresses; the oldest goes first.
    std::map<const std::byte*, std::size_t, std::less<>> freed;
    std::deque<std::byte*> kept;
    std::size_t kept_bytes = 0;
    std::array<Room, 2> rooms;
    std::shared_ptr<Allocation> last;  // found: the next is often the same

    Memory() {
        rooms[static_cast<std::size_t>(Place::device)].total = static_cast<std::size_t>(
            setting("DEEPLAB_TEST_DEVICE", "memory", std::int64_t{1} << 33));
    }
    Room& room(Place place) { return rooms[static_cast<std::size_t>(place)]; }
};

// Never destroyed: memory that was freed is kept until the program ends, and is no leak.
Memory& memory() {
    static Memory* const all = new Memory;
    return *all;
}

bool within(const Allocation& a, const std::byte* p) {
    return p >= a.begin && p < a.begin + a.size;
}

template <class Map>
auto at_or_before(Map& map, const std::byte* p) {
    auto found = map.upper_bound(p);
    return found == map.begin() ? map.end() : std::prev(found);
}

// Nobody may touch what is kept.
void keep(std::byte* data, std::size_t size) {
    constexpr std::size_t most = std::size_t{64} << 20;
    Memory& m = memory();
    std::memset(data, 0xff, size);
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(data, size);
#endif
    m.freed[data] = size;
    m.kept.push_back(data);
    m.kept_bytes += size;
    while (m.kept_bytes > most) {
        std::byte* const oldest = m.kept.front();
        const std::size_t oldest_size = m.freed.at(oldest);
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(oldest, oldest_size);
#endif
        m.kept_bytes -= oldest_size;
        m.freed.erase(oldest);
        m.kept.pop_front();
        std::free(oldest);
    }
}

}  // namespace

bool allocate(void** data, std::size_t size, Place place) {
    *data = nullptr;
    if (size == 0) return true;
    Room& room = memory().room(place);
    if (size > room.total - std::min(room.total, room.taken)) return false;
    if (posix_memalign(data, 256, size) != 0) return false;
    std::memset(*data, 0xff, size);
    room.taken += size;
    auto a = std::make_shared<Allocation>();
    a->begin = static_cast<std::byte*>(*data), a->size = size, a->place = place;
    if (place == Place::device) a->types.assign(size, Type::none);
    memory().allocations[a->begin] = std::move(a);
    ++(place == Place::device ? counts().device_allocations : counts().pinned_allocations);
    return true;
}

void release(void* data, Place place) {
    if (data == nullptr) return;
    const std::shared_ptr<Allocation> a = find(data);
    if (!a || a->begin != data || a->place != place) {
        complain("memory is freed that was not allocated so");
        return;
    }
    if (place == Place::device && work_is_pending()) ++counts().frees_while_busy;
    if (place == Place::device && step_is_pending())
        complain("memory is freed during a step, for which CUDA may wait, and so for other ranks");
    if (work_uses(*a)) {
        complain("memory is freed that enqueued work still uses");
        reach_all();
    }
    a->freed = true;
    memory().last.reset();
    memory().allocations.erase(a->begin);
    memory().room(place).taken -= a->size;
    keep(a->begin, a->size);
}

std::shared_ptr<Allocation> find(const void* address) {
    const auto* p = static_cast<const std::byte*>(address);
    Memory& m = memory();
    if (m.last && within(*m.last, p)) return m.last;
    const auto found = at_or_before(m.allocations, p);
    if (found == m.allocations.end() || !within(*found->second, p)) return nullptr;
    return m.last = found->second;
}

void use(Uses& uses, const void* address) {
    if (address == nullptr) return;
    if (std::shared_ptr<Allocation> a = find(address)) {
        if (std::find(uses.begin(), uses.end(), a) == uses.end()) uses.push_back(std::move(a));
        return;
    }
    const auto* p = static_cast<const std::byte*>(address);
    const auto gone = at_or_before(memory().freed, p);
    if (gone != memory().freed.end() && p < gone->first + gone->second)
        complain("work is enqueued that uses memory which was freed");
}

void note_written(const void* address, std::size_t bytes, Type type) {
    const auto a = find(address);
    if (!a || a->types.empty()) return;
    const auto at = static_cast<std::size_t>(static_cast<const std::byte*>(address) - a->begin);
    std::fill_n(a->types.begin() + static_cast<std::ptrdiff_t>(at), std::min(bytes, a->size - at),
                type);
}

void note_copied(const void* to, const void* from, std::size_t bytes) {
    const auto source = find(from), target = find(to);
    if (!target || target->types.empty()) return;
    if (!source || source->types.empty()) {
        note_written(to, bytes, Type::bytes);
        return;
    }
    const auto first = static_cast<const std::byte*>(from) - source->begin;
    std::vector<Type> types(source->types.begin() + first,
                            source->types.begin() + first + static_cast<std::ptrdiff_t>(bytes));
    std::copy(types.begin(), types.end(),
              target->types.begin() + (static_cast<const std::byte*>(to) - target->begin));
}

namespace {
template <class Accept>
bool all_of(const void* address, std::size_t bytes, const Accept& accept) {
    const auto a = find(address);
    if (!a || a->types.empty()) return false;
    const auto first = static_cast<const std::byte*>(address) - a->begin;
    if (static_cast<std::size_t>(first) + bytes > a->size) return false;
    const auto begin = a->types.begin() + first;
    return std::all_of(begin, begin + static_cast<std::ptrdiff_t>(bytes), accept);
}
}  // namespace

bool holds(const void* address, std::size_t bytes, Type type) {
    return all_of(address, bytes, [type](Type t) { return t == type || t == Type::bytes; });
}

bool may_hold(const void* address, std::size_t bytes, Type type) {
    return !find(address) || all_of(address, bytes, [type](Type t) {
        return t == type || t == Type::bytes || t == Type::none;
    });
}

std::size_t room(Place place) { return memory().room(place).total; }
std::size_t free_room(Place place) {
    const Room& r = memory().room(place);
    return r.total - std::min(r.total, r.taken);
}

LimitedRoom::LimitedRoom(Place place, std::size_t more) : place_(place), before_(room(place)) {
    memory().room(place).total = memory().room(place).taken + more;
}
LimitedRoom::~LimitedRoom() { memory().room(place_).total = before_; }

}  // namespace deeplab::shim
