#pragma once
// What a state dict's pickle may name, and what it may not do; private to this folder.

#include <cstdint>
#include <string_view>

#include "deeplab/io/tensor_file.h"

namespace deeplab::io {

// What a global stands for. Storages and PyTorch 0.1's tensors carry their element type.
enum class Role : std::uint8_t {
    ordered_dict,       // collections.OrderedDict
    rebuild_tensor,     // (storage, offset, size, stride[, requires_grad, hooks])
    rebuild_parameter,  // (tensor, requires_grad, hooks)
    parameter,          // (tensor[, requires_grad])
    legacy_tensor,      // (), filled by BUILD (storage, offset, size, stride)
    storage,
    size,        // (tuple)
    numpy_type,  // numpy's scalars, which training scripts keep beside the weights
    numpy_scalar,
    codec,
};

struct Global {
    std::string_view module, name;
    Role role;
    ElementType type = ElementType::f32;
};

inline constexpr Global globals[] = {
    {"collections", "OrderedDict", Role::ordered_dict},
    {"torch._utils", "_rebuild_tensor", Role::rebuild_tensor},
    {"torch._utils", "_rebuild_tensor_v2", Role::rebuild_tensor},
    {"torch._utils", "_rebuild_parameter", Role::rebuild_parameter},
    {"torch.nn.parameter", "Parameter", Role::parameter},
    {"torch", "Size", Role::size},
    {"torch", "DoubleStorage", Role::storage, ElementType::f64},
    {"torch", "FloatStorage", Role::storage, ElementType::f32},
    {"torch", "HalfStorage", Role::storage, ElementType::f16},
    {"torch", "BFloat16Storage", Role::storage, ElementType::bf16},
    {"torch", "LongStorage", Role::storage, ElementType::i64},
    {"torch", "IntStorage", Role::storage, ElementType::i32},
    {"torch", "ShortStorage", Role::storage, ElementType::i16},
    {"torch", "CharStorage", Role::storage, ElementType::i8},
    {"torch", "ByteStorage", Role::storage, ElementType::u8},
    {"torch", "BoolStorage", Role::storage, ElementType::boolean},
    {"torch", "DoubleTensor", Role::legacy_tensor},
    {"torch", "FloatTensor", Role::legacy_tensor},
    {"torch", "HalfTensor", Role::legacy_tensor},
    {"torch", "LongTensor", Role::legacy_tensor},
    {"torch", "IntTensor", Role::legacy_tensor},
    {"torch", "ShortTensor", Role::legacy_tensor},
    {"torch", "CharTensor", Role::legacy_tensor},
    {"torch", "ByteTensor", Role::legacy_tensor},
    {"numpy", "dtype", Role::numpy_type},
    {"numpy.core.multiarray", "scalar", Role::numpy_scalar},
    {"numpy._core.multiarray", "scalar", Role::numpy_scalar},
    {"_codecs", "encode", Role::codec},
};

// Names of opcodes that are refused; the ones of a state dict stand in Machine::step.
struct Opcode {
    unsigned char code;
    const char* name;
};
inline constexpr Opcode refused_opcodes[] = {
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
    {'F', "FLOAT"},
    {'I', "INT"},
    {'L', "LONG"},
    {'P', "PERSID"},
    {'S', "STRING"},
    {'V', "UNICODE"},
    {'B', "BINBYTES"},
    {'C', "SHORT_BINBYTES"},
    {'d', "DICT"},
    {'g', "GET"},
    {'i', "INST"},
    {'l', "LIST"},
    {'o', "OBJ"},
    {'p', "PUT"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {0x8b, "LONG4"},
    {0x8c, "SHORT_BINUNICODE"},
    {0x8d, "BINUNICODE8"},
    {0x8e, "BINBYTES8"},
    {0x8f, "EMPTY_SET"},
    {0x90, "ADDITEMS"},
    {0x91, "FROZENSET"},
    {0x92, "NEWOBJ_EX"},
    {0x93, "STACK_GLOBAL"},
    {0x94, "MEMOIZE"},
    {0x95, "FRAME"},
    {0x96, "BYTEARRAY8"},
    {0x97, "NEXT_BUFFER"},
    {0x98, "READONLY_BUFFER"},
};

}  // namespace deeplab::io
