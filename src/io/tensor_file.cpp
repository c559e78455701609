#include "deeplab/io/tensor_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <fstream>

#include "deeplab/base/files.h"
#include "deeplab/io/foreign.h"
#include "tensor_file.h"

namespace deeplab::io {

static_assert(std::endian::native == std::endian::little, "the formats are little-endian");

namespace {

struct TypeRow {
    const char* name;
    std::size_t size;
    bool floating;
};

// In the order of ElementType.
constexpr TypeRow types[] = {
    {"F64", 8, true},  {"F32", 4, true},  {"F16", 2, true}, {"BF16", 2, true}, {"I64", 8, false},
    {"I32", 4, false}, {"I16", 2, false}, {"I8", 1, false}, {"U8", 1, false},  {"BOOL", 1, false}};

const TypeRow& row(ElementType type) { return types[static_cast<std::size_t>(type)]; }

// IEEE 754 binary16: sign, 5 bits of exponent (bias 15), 10 of fraction.
float from_half(std::uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float value = 0;
    if (exponent == 31)
        value = fraction == 0 ? INFINITY : NAN;
    else if (exponent == 0)
        value = std::ldexp(static_cast<float>(fraction), -24);
    else
        value = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return (bits & 0x8000) != 0 ? -value : value;
}

template <class T>
T load(const unsigned char* at) {
    T value;
    std::memcpy(&value, at, sizeof(T));  // no alignment is promised
    return value;
}

float value_at(ElementType type, const unsigned char* at) {
    switch (type) {
        case ElementType::f64: return static_cast<float>(load<double>(at));
        case ElementType::f32: return load<float>(at);
        case ElementType::f16: return from_half(load<std::uint16_t>(at));
        case ElementType::bf16:
            return std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(at)) << 16);
        case ElementType::i64: return static_cast<float>(load<std::int64_t>(at));
        case ElementType::i32: return static_cast<float>(load<std::int32_t>(at));
        case ElementType::i16: return load<std::int16_t>(at);
        case ElementType::i8: return load<std::int8_t>(at);
        case ElementType::u8: return *at;
        case ElementType::boolean: return *at != 0 ? 1.0f : 0.0f;
    }
    return 0;
}

bool row_major(const StoredTensor& tensor) {
    std::int64_t stride = 1;
    for (std::size_t d = tensor.extents.size(); d-- > 0;) {
        if (tensor.extents[d] != 1 && tensor.strides[d] != stride) return false;
        stride *= tensor.extents[d];
    }
    return true;
}

}  // namespace

const char* name(ElementType type) { return row(type).name; }
std::size_t size_of(ElementType type) { return row(type).size; }
bool is_floating(ElementType type) { return row(type).floating; }

std::int64_t StoredTensor::elements() const {
    std::int64_t n = 1;
    for (const std::int64_t e : extents) n *= e;
    return n;
}

std::vector<float> to_f32(const StoredTensor& tensor) {
    const auto count = static_cast<std::size_t>(tensor.elements());
    std::vector<float> values(count);
    const std::size_t size = size_of(tensor.type);
    if (count != 0 && row_major(tensor)) {
        if (tensor.type == ElementType::f32)
            std::memcpy(values.data(), tensor.bytes.data(), count * size);
        else
            for (std::size_t i = 0; i < count; ++i)
                values[i] = value_at(tensor.type, tensor.bytes.data() + i * size);
        return values;
    }
    std::vector<std::int64_t> index(tensor.extents.size(), 0);
    std::int64_t at = 0;
    for (float& value : values) {
        value = value_at(tensor.type, tensor.bytes.data() + static_cast<std::size_t>(at) * size);
        for (std::size_t d = index.size(); d-- > 0;) {  // the next element in row-major order
            at += tensor.strides[d];
            if (++index[d] < tensor.extents[d]) break;
            at -= tensor.strides[d] * index[d];
            index[d] = 0;
        }
    }
    return values;
}

std::optional<std::uint64_t> elements_within(std::span<const std::int64_t> extents,
                                             std::uint64_t limit) {
    std::uint64_t room = limit, elements = 1;
    for (const std::int64_t extent : extents) {
        const auto e = static_cast<std::uint64_t>(extent);
        if (extent < 0 || e > room) return std::nullopt;
        if (e > 0) room /= e;
        elements *= e;
    }
    return elements;
}

std::string shown(std::string_view text) {
    constexpr std::size_t longest = 256;
    std::string safe(text.substr(0, longest));
    for (char& c : safe) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return text.size() > longest ? safe + "..." : safe;
}

void check_name(std::string_view name, const std::string& what) {
    if (shown(name) != name) refuse(what, cat("it has a tensor named ", shown(name)));
}

namespace {

struct Head {
    std::array<unsigned char, 1024> bytes{};
    std::size_t size = 0;
    int error = 0;  // of the system; 0: it was read

    std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), size}; }
};

Head head_of(const std::filesystem::path& file) {
    Head head;
    errno = 0;
    std::ifstream in(file, std::ios::binary);
    in.read(reinterpret_cast<char*>(head.bytes.data()),
            static_cast<std::streamsize>(head.bytes.size()));
    head.size = static_cast<std::size_t>(in.gcount());
    if (!in.is_open() || in.bad()) head.error = errno != 0 ? errno : EIO;
    return head;
}

Content content_of(const Head& head) {
    const std::string_view bytes = head.text();
    if (bytes.starts_with("\x89HDF\r\n")) return Content::hdf5;
    // The length of the header comes first: eight bytes, the upper ones zero. A length of 640
    // begins as a pickle does, which goes on otherwise.
    if (head.size >= 9 && bytes[8] == '{' && bytes[7] == '\0' && bytes[6] == '\0')
        return Content::safetensors;
    // A zip; a pickle; a tar, which PyTorch wrote before 0.1.8 or so.
    if (bytes.starts_with("PK") || bytes.starts_with("\x80\x02") ||
        bytes.substr(std::min<std::size_t>(head.size, 257)).starts_with("ustar"))
        return Content::pth;
    return Content::unknown;
}

[[noreturn]] void refuse_unknown(const std::string& what, const Head& head) {
    const std::string why = "there are no weights in it that this program reads",
                      give =
                          "give a checkpoint of deeplab-train, a run's folder, safetensors or a "
                          "PyTorch .pth";
    if (is_machines_failure(head.error)) throw_machines_failure("read", what, head.error);
    if (head.error != 0) {
        refuse_kind(what, cat("it cannot be read: ", std::strerror(head.error)), why,
                    "check its permissions and the file system");
    }
    if (head.size == 0)
        refuse_kind(what, "it is empty", why, "fetch or write it again: a copy did not end");
    if (const auto foreign = foreign_file({head.bytes.data(), head.size}))
        refuse_kind(what, cat("it is ", foreign->what), why, foreign->remedy);
    const std::string_view text = head.text();
    const bool printable = std::all_of(text.begin(), text.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte >= 0x20 || byte == '\t' || byte == '\n' || byte == '\r' || byte == '\f';
    });
    if (printable) {
        const std::string line = trim(text.substr(0, std::min(text.find('\n'), std::size_t{60})));
        refuse_kind(
            what,
            cat("it is not a weights file, but a text that begins with \"", shown(line), "\""), why,
            give);
    }
    refuse_kind(what, "it is not a weights file, by its first bytes", why, give);
}

}  // namespace

Content content_of(const std::filesystem::path& file) { return content_of(head_of(file)); }

TensorFile load_tensor_file(const std::filesystem::path& file) {
    const std::string what = file.string();
    const Head head = head_of(file);
    const Content content = content_of(head);
    if (content != Content::safetensors && content != Content::pth) refuse_unknown(what, head);
    // A ResNet-101 in double precision with its optimizer has 1.4 GB: more is another network.
    constexpr std::uintmax_t largest = std::uintmax_t{16} << 30;
    std::error_code unreadable;
    const std::uintmax_t size = std::filesystem::file_size(file, unreadable);
    if (!unreadable && size > largest) {
        refuse_kind(what,
                    cat("it has ", human_bytes(size), ", no network of this program has as much"),
                    "it holds another network, or much beside one",
                    "save the state dict alone: torch.save(model.state_dict(), FILE)");
    }
    std::vector<unsigned char> bytes = read_bytes(file);
    return content == Content::pth ? parse_pth(std::move(bytes), what)
                                   : parse_safetensors(std::move(bytes), what);
}

}  // namespace deeplab::io
