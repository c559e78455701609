#pragma once
// Files of named tensors: safetensors, and PyTorch's .pth (a zip since 1.6, before that a stream of
// pickles). A reader checks the whole file before it hands out a tensor: every size is held against
// the file's own, nothing is executed, and nothing much larger than the file is allocated.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace deeplab::io {

enum class ElementType : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

const char* name(ElementType type);  // as safetensors has it: "F32", "BOOL"
std::size_t size_of(ElementType type);
bool is_floating(ElementType type);

struct StoredTensor {
    std::string name;
    ElementType type = ElementType::f32;
    std::vector<std::int64_t> extents;  // none: a scalar
    std::vector<std::int64_t> strides;  // in elements; row-major unless a .pth says otherwise
    std::span<const unsigned char>
        bytes;  // from the first element to behind the last, little-endian

    std::int64_t elements() const;
};

// The values in row-major order.
std::vector<float> to_f32(const StoredTensor& tensor);

// What a file holds; owns the bytes that its tensors point into.
struct TensorFile {
    TensorFile() = default;
    TensorFile(TensorFile&&) = default;
    TensorFile& operator=(TensorFile&&) = default;

    std::string kind;                   // "safetensors", "PyTorch .pth (zip)", …
    std::vector<StoredTensor> tensors;  // in the file's order
    std::vector<std::pair<std::string, std::string>> metadata;  // of a safetensors file
    std::vector<std::string> others;  // names in a .pth's state dict that are no tensors
    // Of a .pth that holds more than a state dict: the keys down to the one that was taken
    // ("model"), and those of other state dicts beside it ("model_ema").
    std::string taken;
    std::vector<std::string> beside;
    std::vector<unsigned char> bytes;
};

enum class Content { hdf5, safetensors, pth, unknown };
Content content_of(const std::filesystem::path& file);  // by its first bytes; unknown if unreadable

// DataError naming the file and what is wrong with it, also for content that is neither kind.
TensorFile load_tensor_file(const std::filesystem::path& file);
// The same from memory; `what` names the bytes in errors.
TensorFile parse_safetensors(std::vector<unsigned char> bytes, const std::string& what);
TensorFile parse_pth(std::vector<unsigned char> bytes, const std::string& what);

struct TensorToWrite {
    std::string name;
    ElementType type = ElementType::f32;
    std::vector<std::int64_t> extents;
    std::span<const unsigned char> bytes;  // row-major, little-endian
};

// Atomic. The same content gives the same bytes: tensors stand by element size, the largest first
// (so that each is aligned), then by name; metadata as given.
void write_safetensors(const std::filesystem::path& target, std::vector<TensorToWrite> tensors,
                       const std::vector<std::pair<std::string, std::string>>& metadata);

}  // namespace deeplab::io
