#pragma once
// What reading and writing HDF5 share; private to this folder.

#include <mutex>
#include <string>
#include <utility>

#include <hdf5.h>

#include "deeplab/base/types.h"

namespace deeplab::io {

// Owns one HDF5 identifier.
class Handle {
public:
    using Close = herr_t (*)(hid_t);
    Handle() = default;
    Handle(hid_t id, Close closer) : id_(id), close_(closer) {}
    Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(id_, other.id_);
        std::swap(close_, other.close_);
        return *this;
    }
    ~Handle() { close(); }

    hid_t get() const { return id_; }
    bool valid() const { return id_ >= 0; }
    bool close() { return id_ < 0 || close_(std::exchange(id_, -1)) >= 0; }

private:
    hid_t id_ = -1;
    Close close_ = nullptr;
};

// Holds HDF5 for the calling thread, and keeps it from printing there. Not every HDF5 is
// thread-safe, while a loader's reader thread and an evaluation may read at once: every public
// function takes it first.
[[nodiscard]] std::unique_lock<std::recursive_mutex> hold_library();

// The innermost description of the last failure, and clears it.
std::string last_problem();

hid_t memory_type(DType type);

}  // namespace deeplab::io
