#pragma once
// Memory of the stand-in's device and pinned memory of its host: how much there is, which of it
// enqueued work uses, and as what type each byte of the device's was written last.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace deeplab::shim {

enum class Place : std::uint8_t { device, pinned };

// none: as it was allocated. bytes: copied from the host or set, which may be of any type.
enum class Type : std::uint8_t { none, bytes, u8, bf16, f32, f64, other };

struct Allocation {
    std::byte* begin = nullptr;
    std::size_t size = 0;
    Place place = Place::device;
    bool freed = false;
    std::vector<Type> types;  // a byte each, of the device's memory
};
// What a piece of work is given addresses of.
using Uses = std::vector<std::shared_ptr<Allocation>>;

// In exact sizes, 0xff in every byte. False where the place has no more room.
bool allocate(void** data, std::size_t size, Place place);
// Complains about memory that was not allocated there, or that enqueued work uses.
void release(void* data, Place place);

// Null where the address lies in none.
std::shared_ptr<Allocation> find(const void* address);
// Adds what the address lies in; complains about memory that was freed.
void use(Uses& uses, const void* address);
// Takes every word of a launch's parameter for an address. Padding has what was on the stack
// before, so without a compiler that clears it nothing is said.
template <class P>
void use_words(Uses& uses, P parameter) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
    if constexpr (alignof(P) % sizeof(void*) == 0) {
        __builtin_clear_padding(&parameter);
        std::array<const void*, sizeof(P) / sizeof(void*)> words;
        std::memcpy(words.data(), &parameter, words.size() * sizeof(void*));
        for (const void* word : words) use(uses, word);
    }
#endif
#endif
    static_cast<void>(uses), static_cast<void>(parameter);
}

// Of device memory; others are nobody's concern.
void note_written(const void* address, std::size_t bytes, Type type);
void note_copied(const void* to, const void* from, std::size_t bytes);
// Whether every byte was last written as this type, or as bytes.
bool holds(const void* address, std::size_t bytes, Type type);
// The same where not every writer tells: no byte as another type. Also of the host's memory.
bool may_hold(const void* address, std::size_t bytes, Type type);

// Room for allocations; while an object lives, another amount.
std::size_t room(Place place);
std::size_t free_room(Place place);
class LimitedRoom {
public:
    LimitedRoom(Place place, std::size_t more);  // than is allocated now
    ~LimitedRoom();
    LimitedRoom(const LimitedRoom&) = delete;
    LimitedRoom& operator=(const LimitedRoom&) = delete;

private:
    Place place_;
    std::size_t before_;
};

}  // namespace deeplab::shim
