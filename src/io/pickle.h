#pragma once
// Pickles as torch.save writes them, read as data. Nothing is executed: a pickle is a program for a
// small stack machine, of which this one knows only what state dicts need. Every other opcode, and
// every global outside a list of some thirty, is refused by name and byte. Private to this folder.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deeplab/io/tensor_file.h"
#include "tensor_file.h"

namespace deeplab::io {

// What stands behind a persistent id: numbers that the file holds elsewhere.
struct PickledStorage {
    ElementType type = ElementType::f32;
    std::string_view key;
    std::int64_t elements = 0;
    // The part of it that is meant (PyTorch 0.1's views); all of it otherwise.
    std::int64_t view_offset = 0, view_elements = 0;
};

struct PickledTensor {
    std::optional<std::uint32_t> storage;  // none: a tensor not yet filled (PyTorch 0.1)
    std::int64_t offset = 0;               // in elements of the storage
    std::vector<std::int64_t> extents, strides;
};

struct PickleNode {
    enum class Kind : std::uint8_t {
        none,
        boolean,
        integer,
        text,
        tuple,
        list,
        dict,     // Python's; dict: also OrderedDict
        global,   // number: which one
        storage,  // number: index into storages
        tensor,   // number: index into tensors
        opaque,   // a number or an object whose value nobody asks for
    };
    Kind kind = Kind::none;
    std::int64_t number = 0;           // of boolean, integer, and as said above
    std::string_view text;             // points into the pickle
    std::vector<std::uint32_t> items;  // nodes; of a dict: key, value, key, value, …
};

struct Pickle {
    std::vector<PickleNode> nodes;
    std::vector<PickledStorage> storages;
    std::vector<PickledTensor> tensors;
    std::uint32_t root = 0;
    std::size_t end = 0;  // behind its last byte

    const PickleNode& at(std::uint32_t node) const { return nodes[node]; }
    // The value at a key of text; nullptr when absent or when `dict` is none.
    const PickleNode* find(const PickleNode& dict, std::string_view key) const;
};

// The pickle that begins at `start` of `bytes`. `where` names it in errors.
Pickle read_pickle(Bytes bytes, std::size_t start, const std::string& what,
                   const std::string& where);

}  // namespace deeplab::io
