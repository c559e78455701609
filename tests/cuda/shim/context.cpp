#include "context.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves what a call preserves on the stack that is left; a system call as in swapcontext would take
// most of a test's time.
asm(R"(
.text
.globl deeplab_shim_switch
.type deeplab_shim_switch, @function
deeplab_shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size deeplab_shim_switch, .-deeplab_shim_switch
)");
extern "C" void deeplab_shim_switch(void** left, void* reached);
#else
#include <ucontext.h>
#endif

namespace deeplab::shim {
namespace {

constexpr std::size_t page = 4096, stack_size = 256 * 1024;
Context* previous = nullptr;  // the one that was left for the running one
Context* running = nullptr;

}  // namespace

Context::Context(void (*entry)(void*), void* argument) : entry_(entry), argument_(argument) {
    void* memory = mmap(nullptr, page + stack_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<std::byte*>(memory);
    mprotect(memory_, page, PROT_NONE);
    bottom_ = memory_ + page;
    size_ = stack_size;
#if defined(__x86_64__)
    // As if begin() were called: its return address (none) where the stack is 8 off 16, then the
    // address that the switch returns to, then six registers.
    auto* top = reinterpret_cast<std::uintptr_t*>(memory_ + page + stack_size);
    top[-1] = 0;
    top[-2] = reinterpret_cast<std::uintptr_t>(&Context::begin);
    pointer_ = top - 8;
#else
    auto* context = new ucontext_t;
    getcontext(context);
    context->uc_stack.ss_sp = memory_ + page;
    context->uc_stack.ss_size = stack_size;
    context->uc_link = nullptr;
    makecontext(context, &Context::begin, 0);
    pointer_ = context;
#endif
}

Context::~Context() {
    if (memory_ != nullptr) munmap(memory_, page + stack_size);
#if !defined(__x86_64__)
    delete static_cast<ucontext_t*>(pointer_);
#endif
}

void Context::begin() {
    running->arrived();
    running->entry_(running->argument_);
}

// On the new stack: a sanitizer's view of it, and the bounds of the one that was left.
void Context::arrived() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack_, &previous->bottom_, &previous->size_);
#endif
}

void Context::change(Context& from, Context& to) {
    previous = &from;
    running = &to;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.size_);
#endif
#if defined(__x86_64__)
    deeplab_shim_switch(&from.pointer_, to.pointer_);
#else
    if (from.pointer_ == nullptr) from.pointer_ = new ucontext_t;
    swapcontext(static_cast<ucontext_t*>(from.pointer_), static_cast<ucontext_t*>(to.pointer_));
#endif
    from.arrived();
}

}  // namespace deeplab::shim
