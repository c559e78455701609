#pragma once
// Shapes and element types shared by every folder.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace deeplab {

enum class DType : std::uint8_t { f32, f64, bf16, u8, i32, i64, u64 };

constexpr std::size_t size_of(DType type) {
    switch (type) {
        case DType::f32:
        case DType::i32: return 4;
        case DType::f64:
        case DType::i64:
        case DType::u64: return 8;
        case DType::bf16: return 2;
        case DType::u8: return 1;
    }
    return 0;
}

const char* name(DType type);

// Of the numbers of a network. fp32: no tensor core may round inputs. tf32: it may. bf16:
// activations and the weights that convolutions read are bf16. Sums are f32 in each.
enum class Precision : std::uint8_t { fp32, tf32, bf16 };

// Logical extents; the order in memory is a backend's business, the order on the host is always N C
// H W.
struct Shape {
    std::int64_t n = 1, c = 1, h = 1, w = 1;

    constexpr std::int64_t elements() const { return n * c * h * w; }
    constexpr bool operator==(const Shape&) const = default;
};

std::string to_string(const Shape& shape);  // "2x64x129x129"

}  // namespace deeplab
