#pragma once
// Changes HDF5 files as another program could have written them: well-formed, with contents that
// Hdf5Writer never makes. For tests of what readers refuse.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace deeplab::testing {

// What stands under a name instead of what stood there.
struct Hdf5Object {
    enum class Kind { dataset, attribute, group, soft_link, external_link };
    enum class Type {
        u8,
        i8,
        u32,
        i64,
        big_endian_i64,
        odd_i64,
        u64,
        f32,
        f64,
        text,
        variable_text,
        compound,
        enumeration,
        array,
        opaque
    };
    enum class Space { scalar, simple, null };
    enum class Layout { contiguous, compact, chunked, deflated, external };

    Kind kind = Kind::dataset;
    Type type = Type::i64;
    std::size_t text_size = 4;  // of `text`, `opaque`, and bits of precision of `odd_i64`
    Space space = Space::simple;
    std::vector<std::uint64_t> extents = {1};
    Layout layout = Layout::contiguous;
    // Repeated over the elements; nothing is written where there are too many of them: then the
    // file claims what it does not hold.
    std::vector<std::uint8_t> content;
    std::string target;  // of a link
};

inline Hdf5Object text_attribute(const std::string& text) {
    return {.kind = Hdf5Object::Kind::attribute,
            .type = Hdf5Object::Type::text,
            .text_size = text.size(),
            .space = Hdf5Object::Space::scalar,
            .content = {text.begin(), text.end()},
            .target = ""};
}

class Hdf5Editor {
public:
    explicit Hdf5Editor(const std::filesystem::path& file);  // which must be HDF5
    ~Hdf5Editor();
    Hdf5Editor(const Hdf5Editor&) = delete;
    Hdf5Editor& operator=(const Hdf5Editor&) = delete;

    // Each does nothing where HDF5 cannot do it: names and values may be arbitrary.
    void remove(const std::string& name);  // dataset, group or attribute of the file
    void replace(const std::string& name, const Hdf5Object& object);
    // Element `index` of an integer dataset or attribute of any extents.
    void poke(const std::string& name, std::uint64_t index, std::int64_t value);

private:
    std::int64_t file_ = -1;
};

}  // namespace deeplab::testing
