#pragma once
// A stack of its own for a function, and the way to it and back. AddressSanitizer is told.

#include <cstddef>

namespace deeplab::shim {

class Context {
public:
    // The thread that switches to others first: it has its stack already.
    Context() = default;
    // Runs entry(argument) at the first switch; entry must not return.
    Context(void (*entry)(void*), void* argument);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    // Leaves `from`, which is running, and goes on where `to` was left.
    static void change(Context& from, Context& to);

private:
    static void begin();
    void arrived();

    void (*entry_)(void*) = nullptr;
    void* argument_ = nullptr;
    std::byte* memory_ = nullptr;                  // a guard page, then the stack
    void* pointer_ = nullptr;                      // where it was left
    [[maybe_unused]] void* fake_stack_ = nullptr;  // AddressSanitizer's
    const void* bottom_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace deeplab::shim
