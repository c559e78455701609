#include "hdf5_support.h"

#include <cstdlib>
#include <string_view>

#include "deeplab/base/error.h"

namespace deeplab::io {

// HDF5 prints its errors unless told not to, thread by thread; they go into our messages instead.
// Its exit handler crashes at the end of a process in which a file could not be closed because the
// disk was full; nothing is lost without it, since every file is closed here. Its file locks fail
// on many Lustre and NFS mounts and guard nothing here: what is written has a name of its own until
// it is whole. The variable outweighs what a program asks for, so it is the variable that is set.
std::unique_lock<std::recursive_mutex> hold_library() {
    static std::recursive_mutex library;
    std::unique_lock<std::recursive_mutex> held(library);
    static const bool prepared = [] {
        ::setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
        return H5dont_atexit() >= 0;
    }();
    static_cast<void>(prepared);
    thread_local const herr_t once = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    static_cast<void>(once);
    return held;
}

std::string last_problem() {
    std::string text;
    const auto visit = [](unsigned depth, const H5E_error2_t* error, void* target) -> herr_t {
        if (depth == 0 && error->desc != nullptr) *static_cast<std::string*>(target) = error->desc;
        return 0;
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, &text);
    H5Eclear2(H5E_DEFAULT);
    // The driver's text holds a date and addresses around the system's reason.
    constexpr std::string_view mark = "error message = '";
    if (const std::size_t at = text.find(mark); at != std::string::npos) {
        text = text.substr(at + mark.size());
        text = text.substr(0, text.find('\''));
    }
    return text.empty() ? "unknown reason" : text;
}

hid_t memory_type(DType type) {
    switch (type) {
        case DType::f32: return H5T_NATIVE_FLOAT;
        case DType::f64: return H5T_NATIVE_DOUBLE;
        case DType::u8: return H5T_NATIVE_UINT8;
        case DType::i32: return H5T_NATIVE_INT32;
        case DType::i64: return H5T_NATIVE_INT64;
        case DType::u64: return H5T_NATIVE_UINT64;
        case DType::bf16: break;
    }
    throw LogicError("HDF5 has no bf16: store f32");
}

}  // namespace deeplab::io
