#include "io/edited_hdf5.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include <hdf5.h>

namespace deeplab::testing {
namespace {

using Object = Hdf5Object;
using Type = Hdf5Object::Type;

constexpr std::uint64_t kMostBytes = 1 << 16;  // that are written of one object

// Identifiers of one function: closed in reverse order at its end.
class Closer {
public:
    ~Closer() {
        for (auto id = ids_.rbegin(); id != ids_.rend(); ++id) H5Idec_ref(*id);
    }
    hid_t operator()(hid_t id) {
        if (id >= 0) ids_.push_back(id);
        return id;
    }

private:
    std::vector<hid_t> ids_;
};

hid_t make_type(const Object& object, Closer& keep) {
    const std::size_t size = std::clamp<std::size_t>(object.text_size, 1, 1 << 20);
    switch (object.type) {
        case Type::u8: return H5T_STD_U8LE;
        case Type::i8: return H5T_STD_I8LE;
        case Type::u32: return H5T_STD_U32LE;
        case Type::i64: return H5T_STD_I64LE;
        case Type::big_endian_i64: return H5T_STD_I64BE;
        case Type::u64: return H5T_STD_U64LE;
        case Type::f32: return H5T_IEEE_F32LE;
        case Type::f64: return H5T_IEEE_F64LE;
        default: break;
    }
    hid_t type = -1;
    switch (object.type) {
        case Type::odd_i64:
            type = keep(H5Tcopy(H5T_STD_I64LE));
            H5Tset_precision(type, std::clamp<std::size_t>(size, 1, 64));
            break;
        case Type::text:
        case Type::variable_text:
            type = keep(H5Tcopy(H5T_C_S1));
            H5Tset_size(type, object.type == Type::text ? size : H5T_VARIABLE);
            break;
        case Type::compound:
            type = keep(H5Tcreate(H5T_COMPOUND, 8));
            H5Tinsert(type, "value", 0, H5T_STD_I64LE);
            break;
        case Type::enumeration: {
            const std::int64_t one = 1;
            type = keep(H5Tenum_create(H5T_NATIVE_INT64));
            H5Tenum_insert(type, "one", &one);
            break;
        }
        case Type::array: {
            const hsize_t extent = 1;
            type = keep(H5Tarray_create2(H5T_STD_I64LE, 1, &extent));
            break;
        }
        default: type = keep(H5Tcreate(H5T_OPAQUE, size)); break;
    }
    return type;
}

hid_t make_space(const Object& object, Closer& keep) {
    if (object.space == Object::Space::scalar) return keep(H5Screate(H5S_SCALAR));
    if (object.space == Object::Space::null) return keep(H5Screate(H5S_NULL));
    const std::vector<hsize_t> extents(object.extents.begin(), object.extents.end());
    return keep(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr));
}

hid_t make_layout(const Object& object, Closer& keep) {
    const hid_t properties = keep(H5Pcreate(H5P_DATASET_CREATE));
    const std::vector<hsize_t> one(std::max<std::size_t>(object.extents.size(), 1), 1);
    switch (object.layout) {
        case Object::Layout::contiguous: H5Pset_layout(properties, H5D_CONTIGUOUS); break;
        case Object::Layout::compact: H5Pset_layout(properties, H5D_COMPACT); break;
        case Object::Layout::deflated: H5Pset_deflate(properties, 1); [[fallthrough]];
        case Object::Layout::chunked:
            H5Pset_chunk(properties, static_cast<int>(one.size()), one.data());
            break;
        case Object::Layout::external:
            H5Pset_external(properties, "/dev/zero", 0, H5F_UNLIMITED);
            break;
    }
    return properties;
}

bool is_small(hid_t type, hid_t space) {
    const hssize_t elements = H5Sget_simple_extent_npoints(space);
    const std::uint64_t size = H5Tget_size(type);
    return elements >= 0 && size > 0 && static_cast<std::uint64_t>(elements) <= kMostBytes / size;
}

// The content over all elements; empty: nothing is to be written.
std::vector<std::uint8_t> whole_content(const Object& object, hid_t type, hid_t space) {
    if (object.type == Type::variable_text || !is_small(type, space)) return {};
    const auto elements = static_cast<std::size_t>(H5Sget_simple_extent_npoints(space));
    std::vector<std::uint8_t> bytes(elements * H5Tget_size(type));
    for (std::size_t i = 0; i < bytes.size() && !object.content.empty(); ++i)
        bytes[i] = object.content[i % object.content.size()];
    return bytes;
}

}  // namespace

Hdf5Editor::Hdf5Editor(const std::filesystem::path& file) {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    Closer keep;
    const hid_t access = keep(H5Pcreate(H5P_FILE_ACCESS));
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_LATEST);
    file_ = H5Fopen(file.c_str(), H5F_ACC_RDWR, access);
    if (file_ < 0) throw std::runtime_error("not HDF5: " + file.string());
}

Hdf5Editor::~Hdf5Editor() { H5Fclose(file_); }

void Hdf5Editor::remove(const std::string& name) {
    if (H5Adelete(file_, name.c_str()) < 0) H5Ldelete(file_, name.c_str(), H5P_DEFAULT);
}

void Hdf5Editor::replace(const std::string& name, const Object& object) {
    remove(name);
    Closer keep;
    const hid_t links = keep(H5Pcreate(H5P_LINK_CREATE));
    H5Pset_create_intermediate_group(links, 1);
    const char* at = name.c_str();
    switch (object.kind) {
        case Object::Kind::group:
            keep(H5Gcreate2(file_, at, links, H5P_DEFAULT, H5P_DEFAULT));
            return;
        case Object::Kind::soft_link:
            H5Lcreate_soft(object.target.c_str(), file_, at, links, H5P_DEFAULT);
            return;
        case Object::Kind::external_link:
            H5Lcreate_external("/dev/null", object.target.c_str(), file_, at, links, H5P_DEFAULT);
            return;
        default: break;
    }
    const hid_t type = make_type(object, keep), space = make_space(object, keep);
    if (type < 0 || space < 0) return;
    // These lie in the object's header, for which HDF5 takes memory at once.
    if ((object.kind == Object::Kind::attribute || object.layout == Object::Layout::compact) &&
        !is_small(type, space)) {
        return;
    }
    const std::vector<std::uint8_t> content = whole_content(object, type, space);
    if (object.kind == Object::Kind::attribute) {
        const hid_t made = keep(H5Acreate2(file_, at, type, space, H5P_DEFAULT, H5P_DEFAULT));
        if (made >= 0 && !content.empty()) H5Awrite(made, type, content.data());
        return;
    }
    const hid_t made = keep(
        H5Dcreate2(file_, at, type, space, links, make_layout(object, keep), H5P_DEFAULT));
    if (made >= 0 && !content.empty() && object.layout != Object::Layout::external)
        H5Dwrite(made, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, content.data());
}

void Hdf5Editor::poke(const std::string& name, std::uint64_t index, std::int64_t value) {
    Closer keep;
    if (H5Aexists(file_, name.c_str()) > 0) {
        const hid_t attribute = keep(H5Aopen(file_, name.c_str(), H5P_DEFAULT));
        const hid_t space = attribute < 0 ? -1 : keep(H5Aget_space(attribute));
        if (H5Sget_simple_extent_npoints(space) == 1) H5Awrite(attribute, H5T_NATIVE_INT64, &value);
        return;
    }
    const hid_t dataset = keep(H5Dopen2(file_, name.c_str(), H5P_DEFAULT));
    const hid_t space = dataset < 0 ? -1 : keep(H5Dget_space(dataset));
    const int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 1) return;
    std::vector<hsize_t> extents(static_cast<std::size_t>(rank)), at(extents.size());
    H5Sget_simple_extent_dims(space, extents.data(), nullptr);
    for (std::size_t axis = extents.size(); axis-- > 0;) {
        if (extents[axis] == 0) return;
        at[axis] = index % extents[axis];
        index /= extents[axis];
    }
    H5Sselect_elements(space, H5S_SELECT_SET, 1, at.data());
    const hid_t one = keep(H5Screate(H5S_SCALAR));
    H5Dwrite(dataset, H5T_NATIVE_INT64, one, space, H5P_DEFAULT, &value);
}

}  // namespace deeplab::testing
