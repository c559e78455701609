// safetensors (https://huggingface.co/docs/safetensors): 8 bytes with the length of a JSON header
// (little-endian), the header, then the tensors' bytes.

#include <algorithm>
#include <limits>
#include <optional>
#include <ostream>

#include "deeplab/base/files.h"
#include "deeplab/io/tensor_file.h"
#include "deeplab/io/value.h"
#include "tensor_file.h"

namespace deeplab::io {
namespace {

constexpr std::uint64_t largest_header = 100'000'000;  // as the format's own library has it
// A tree takes some fifty times the text's size at worst; ours has a few thousand values.
constexpr std::ptrdiff_t most_values = 1'000'000;

std::optional<ElementType> type_named(const std::string& text) {
    for (int t = 0; t <= static_cast<int>(ElementType::boolean); ++t) {
        const auto type = static_cast<ElementType>(t);
        if (text == name(type)) return type;
    }
    return std::nullopt;
}

class Reader {
public:
    Reader(Bytes bytes, const std::string& what) : bytes_(bytes), what_(what + " (safetensors)") {}

    void read(TensorFile& file) {
        const Value header = parse_header();
        const Object* object = header.get_if<Object>();
        if (object == nullptr) fail("its header is not an object");
        for (const auto& [key, value] : object->members()) {
            if (key == "__metadata__")
                read_metadata(value, file);
            else
                file.tensors.push_back(read_tensor(key, value));
        }
        check_cover(file.tensors);
    }

private:
    [[noreturn]] void fail(const std::string& problem) const { refuse(what_, problem); }

    Value parse_header() {
        if (bytes_.size() < 8) fail("it ends within the length of its header");
        const auto length = little_endian<std::uint64_t>(bytes_, 0);
        if (length > largest_header) fail(cat("its header claims ", length, " bytes"));
        if (length > bytes_.size() - 8)
            fail(cat("its header claims ", length, " bytes, ", bytes_.size() - 8,
                     " follow: it is cut short"));
        const auto size = static_cast<std::size_t>(length);
        const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + 8, size);
        data_ = bytes_.subspan(8 + size);
        if (std::count_if(text.begin(), text.end(), [](char c) {
                return c == ',' || c == '[' || c == '{' || c == ':';
            }) > most_values)
            fail("its header has more than a million values");
        try {
            return parse_json(text, "its header");
        } catch (const UsageError& error) {
            fail(error.what());
        }
    }

    void read_metadata(const Value& value, TensorFile& file) const {
        const Object* object = value.get_if<Object>();
        if (object == nullptr) fail("__metadata__ is not an object");
        for (const auto& [key, entry] : object->members()) {
            const std::string* text = entry.get_if<std::string>();
            if (text == nullptr) fail(cat("__metadata__ ", shown(key), " is not a string"));
            file.metadata.emplace_back(key, *text);
        }
    }

    std::int64_t integer(const Value& value, const std::string& tensor, const char* of) const {
        const std::int64_t* number = value.get_if<std::int64_t>();
        if (number == nullptr || *number < 0)
            fail(cat("the tensor ", shown(tensor), ": ", of, " holds something else than sizes"));
        return *number;
    }

    const Array& array(const Object& entry, const std::string& tensor, const char* key) const {
        const Value* value = entry.find(key);
        const Array* found = value == nullptr ? nullptr : value->get_if<Array>();
        if (found == nullptr) fail(cat("the tensor ", shown(tensor), " has no list ", key));
        return *found;
    }

    StoredTensor read_tensor(const std::string& key, const Value& value) const {
        check_name(key, what_);
        const Object* entry = value.get_if<Object>();
        const Value* dtype = entry == nullptr ? nullptr : entry->find("dtype");
        const std::string* type_name = dtype == nullptr ? nullptr : dtype->get_if<std::string>();
        if (type_name == nullptr) fail(cat("the tensor ", shown(key), " has no dtype"));
        const auto type = type_named(*type_name);
        if (!type) fail(cat("the tensor ", shown(key), " is ", shown(*type_name), ", not known"));
        StoredTensor tensor{.name = key, .type = *type, .extents = {}, .strides = {}, .bytes = {}};

        for (const Value& extent : array(*entry, key, "shape"))
            tensor.extents.push_back(integer(extent, key, "shape"));
        const auto elements = elements_within(tensor.extents, bytes_.size());
        if (!elements)
            fail(cat("the tensor ", shown(key), " claims more elements than the file holds"));
        tensor.strides.assign(tensor.extents.size(), 1);
        for (std::size_t d = tensor.extents.size(); d-- > 1;)
            tensor.strides[d - 1] = tensor.strides[d] * tensor.extents[d];

        const Array& offsets = array(*entry, key, "data_offsets");
        if (offsets.size() != 2) fail(cat("the tensor ", shown(key), " has not two data_offsets"));
        const auto begin = static_cast<std::uint64_t>(integer(offsets[0], key, "data_offsets"));
        const auto end = static_cast<std::uint64_t>(integer(offsets[1], key, "data_offsets"));
        if (begin > end || end > data_.size()) {
            fail(cat("the tensor ", shown(key), " lies at ", begin, "..", end, " of ", data_.size(),
                     " bytes", begin > end ? "" : ": it is cut short"));
        }
        if (end - begin != *elements * size_of(*type)) {
            fail(cat("the tensor ", shown(key), " has ", end - begin, " bytes and should have ",
                     *elements * size_of(*type)));
        }
        tensor.bytes = data_.subspan(static_cast<std::size_t>(begin),
                                     static_cast<std::size_t>(end - begin));
        return tensor;
    }

    // The format allows neither overlap nor holes, so that no byte is hidden or meant twice.
    void check_cover(const std::vector<StoredTensor>& tensors) const {
        std::vector<const StoredTensor*> order;
        for (const StoredTensor& tensor : tensors) order.push_back(&tensor);
        std::sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
            const auto end = [](const StoredTensor* t) {
                return t->bytes.data() + t->bytes.size();
            };
            return std::pair(a->bytes.data(), end(a)) < std::pair(b->bytes.data(), end(b));
        });
        const unsigned char* covered = data_.data();
        for (const StoredTensor* tensor : order) {
            if (tensor->bytes.data() < covered)
                fail(cat("the tensor ", shown(tensor->name), " overlaps another"));
            if (tensor->bytes.data() > covered)
                fail(cat("bytes that no tensor owns lie before ", shown(tensor->name)));
            covered += tensor->bytes.size();
        }
        if (covered != data_.data() + data_.size())
            fail(cat(data_.data() + data_.size() - covered,
                     " bytes at the end belong to no tensor"));
    }

    Bytes bytes_, data_;
    const std::string what_;
};

std::string header_text(const std::vector<TensorToWrite>& tensors,
                        const std::vector<std::pair<std::string, std::string>>& metadata) {
    Object header;
    if (!metadata.empty()) {
        Object object;
        for (const auto& [key, text] : metadata) object[key] = text;
        header["__metadata__"] = std::move(object);
    }
    std::int64_t offset = 0;
    for (const TensorToWrite& tensor : tensors) {
        Array shape;
        std::int64_t bytes = static_cast<std::int64_t>(size_of(tensor.type));
        for (const std::int64_t extent : tensor.extents) {
            shape.emplace_back(extent);
            bytes *= extent;
        }
        expects(bytes == static_cast<std::int64_t>(tensor.bytes.size()), "extents fit the bytes");
        expects(header.find(tensor.name) == nullptr, "names differ");
        Object entry;
        entry["dtype"] = name(tensor.type);
        entry["shape"] = std::move(shape);
        entry["data_offsets"] = Array{offset, offset + bytes};
        header[tensor.name] = std::move(entry);
        offset += bytes;
    }
    std::string text = to_json(header);
    text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins aligned
    return text;
}

}  // namespace

TensorFile parse_safetensors(std::vector<unsigned char> bytes, const std::string& what) {
    TensorFile file;
    file.kind = "safetensors";
    file.bytes = std::move(bytes);
    Reader(file.bytes, what).read(file);
    return file;
}

void write_safetensors(const std::filesystem::path& target, std::vector<TensorToWrite> tensors,
                       const std::vector<std::pair<std::string, std::string>>& metadata) {
    std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
        const std::size_t sizes[] = {size_of(a.type), size_of(b.type)};
        return sizes[0] != sizes[1] ? sizes[0] > sizes[1] : a.name < b.name;
    });
    const std::string header = header_text(tensors, metadata);
    write_atomically(target, [&](std::ostream& out) {
        const auto put = [&](const void* data, std::size_t size) {
            out.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
        };
        const std::uint64_t length = header.size();
        put(&length, sizeof(length));
        put(header.data(), header.size());
        for (const TensorToWrite& tensor : tensors) put(tensor.bytes.data(), tensor.bytes.size());
    });
}

}  // namespace deeplab::io
