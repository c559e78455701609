#pragma once
// Malformed and well-formed weight files for tests: pieces of pickles, safetensors from parts.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/io/tensor_file.h"
#include "harness/source_dir.h"

namespace deeplab::testing {

using ByteVector = std::vector<unsigned char>;

inline std::string golden(const std::string& name) {
    return (source_dir() / "tests/golden/weights" / name).string();
}

inline std::string little(std::uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i, value >>= 8) text += static_cast<char>(value);
    return text;
}

inline ByteVector bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

inline std::string text_of(const std::string& file) {
    const ByteVector bytes = read_bytes(file);
    return {bytes.begin(), bytes.end()};
}

inline ByteVector safetensors(const std::string& header, const std::string& data) {
    return bytes_of(little(header.size(), 8) + header + data);
}

// --- Pickles, opcode by opcode (Python's pickletools names them) ---
inline std::string text(std::string_view s) { return "X" + little(s.size(), 4) + std::string(s); }
inline std::string global(const std::string& module, const std::string& name) {
    return "c" + module + "\n" + name + "\n";
}
inline std::string integer(std::int64_t v) {
    return v >= 0 && v < 256 ? "K" + little(static_cast<std::uint64_t>(v), 1)
                             : "\x8a\x08" + little(static_cast<std::uint64_t>(v), 8);
}
inline std::string storage(const std::string& key, std::int64_t elements,
                           const std::string& type = "FloatStorage") {
    return "(" + text("storage") + global("torch", type) + text(key) + text("cpu") +
           integer(elements) + "tQ";
}
inline std::string tuple(const std::vector<std::int64_t>& values) {
    std::string s = "(";
    for (const std::int64_t v : values) s += integer(v);
    return s + "t";
}
inline std::string tensor(const std::string& from, std::int64_t offset,
                          const std::vector<std::int64_t>& extents,
                          const std::vector<std::int64_t>& strides) {
    return global("torch._utils", "_rebuild_tensor_v2") + "(" + from + integer(offset) +
           tuple(extents) + tuple(strides) + "\x89" + global("collections", "OrderedDict") + ")RtR";
}
inline std::string ordered_dict(const std::string& items) {
    return global("collections", "OrderedDict") + ")R(" + items + "u";
}

// A whole .pth (the older stream): `object` is the object's pickle without PROTO and STOP; the
// storages are named "0", "1", ….
inline ByteVector stream(const std::string& object, const std::vector<std::string>& storages,
                         std::size_t element = 4) {
    std::string s = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    s += "\x80\x02M\xe9\x03.";
    s += "\x80\x02}(" + text("protocol_version") + "M\xe9\x03" + text("little_endian") + "\x88u.";
    s += "\x80\x02" + object + ".";
    s += "\x80\x02](";
    for (std::size_t i = 0; i < storages.size(); ++i) s += text(std::to_string(i));
    s += "e.";
    for (const std::string& data : storages) s += little(data.size() / element, 8) + data;
    return bytes_of(s);
}

// A zip of stored entries as PyTorch writes them, but for its padding and zip64 records.
inline ByteVector zip(const std::vector<std::pair<std::string, std::string>>& entries) {
    std::string all, directory;
    for (const auto& [name, data] : entries) {
        const auto* bytes = reinterpret_cast<const unsigned char*>(data.data());
        const std::string fields = little(0, 8) + little(crc32({bytes, data.size()}), 4) +
                                   little(data.size(), 4) + little(data.size(), 4) +
                                   little(name.size(), 2) + little(0, 2);
        directory += "PK\1\2" + little(0, 4) + fields + little(0, 10) + little(all.size(), 4) +
                     name;
        all += "PK\3\4" + little(0, 2) + fields + name + data;
    }
    const std::size_t offset = all.size();
    all += directory + "PK\5\6" + little(0, 4) + little(entries.size(), 2) +
           little(entries.size(), 2) + little(directory.size(), 4) + little(offset, 4) +
           little(0, 2);
    return bytes_of(all);
}

// A whole .pth of the newer kind around an object's pickle without PROTO and STOP.
inline ByteVector archive(const std::string& object, const std::vector<std::string>& storages) {
    std::vector<std::pair<std::string, std::string>> entries = {
        {"archive/data.pkl", "\x80\x02" + object + "."}, {"archive/byteorder", "little"}};
    for (std::size_t i = 0; i < storages.size(); ++i)
        entries.emplace_back("archive/data/" + std::to_string(i), storages[i]);
    return zip(entries);
}

}  // namespace deeplab::testing
