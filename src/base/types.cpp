#include "deeplab/base/types.h"

#include "deeplab/base/text.h"

namespace deeplab {

const char* name(DType type) {
    switch (type) {
        case DType::f32: return "f32";
        case DType::f64: return "f64";
        case DType::bf16: return "bf16";
        case DType::u8: return "u8";
        case DType::i32: return "i32";
        case DType::i64: return "i64";
        case DType::u64: return "u64";
    }
    return "unknown";
}

std::string to_string(const Shape& shape) {
    return cat(shape.n, "x", shape.c, "x", shape.h, "x", shape.w);
}

}  // namespace deeplab
