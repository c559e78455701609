// Writing HDF5 through the C library, in the format of HDF5 1.8: every reader of today knows it
// and, unlike the older default, it has checksums over its own structure, so that most damage is
// noticed when a file is opened.

#include <algorithm>
#include <map>
#include <span>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/limits.h"
#include "deeplab/base/text.h"
#include "deeplab/io/hdf5.h"
#include "hdf5_support.h"

namespace deeplab::io {

namespace {

hid_t file_type(DType type) {
    switch (type) {
        case DType::f32: return H5T_IEEE_F32LE;
        case DType::f64: return H5T_IEEE_F64LE;
        case DType::u8: return H5T_STD_U8LE;
        case DType::i32: return H5T_STD_I32LE;
        case DType::i64: return H5T_STD_I64LE;
        case DType::u64: return H5T_STD_U64LE;
        case DType::bf16: break;
    }
    throw LogicError("HDF5 has no bf16: store f32");
}

Handle text_type(std::size_t size) {
    Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(type.get(), size);
    H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
    H5Tset_cset(type.get(), H5T_CSET_UTF8);
    return type;
}

// A padded text loses zero bytes at its end, so none may stand in it.
void expect_text(const std::string& text) {
    expects(text.find('\0') == std::string::npos, "text stored in HDF5 holds no zero byte");
}

// No time stamps; links and attributes in the object's header, which has a checksum, at any number:
// the heap that HDF5 would move many of them to has none, and 1.10.8 crashes on a damaged one.
Handle creation_properties(hid_t kind) {
    Handle properties(H5Pcreate(kind), H5Pclose);
    H5Pset_obj_track_times(properties.get(), false);
    H5Pset_attr_phase_change(properties.get(), 65535, 0);
    if (kind != H5P_DATASET_CREATE) H5Pset_link_phase_change(properties.get(), 65535, 0);
    return properties;
}

}  // namespace

struct Hdf5Writer::Impl {
    struct Open {
        Handle dataset;
        DType type = DType::u8;
        std::int64_t elements = 0, written = 0;
    };

    std::string path;
    Writing writing = Writing::at_once;
    Handle file;
    std::map<std::string, Open> open;  // made by create(), until they are complete

    [[noreturn]] void fail(const std::string& action) const {
        const std::string problem = last_problem();
        const bool memory = problem.find("allocate memory") != std::string::npos;
        throw DeviceError(cat("cannot ", action, " (", path, "): ", problem,
                              memory ? memory_limit() : "", " — the file is not complete — ",
                              memory ? "it is made in memory: raise the limit, or use a machine "
                                       "with more"
                                     : write_advice(problem)));
    }
    void check(bool good, const char* action, const std::string& name) const {
        if (!good) fail(cat(action, " ", name));
    }

    // The file's bytes, in the library's memory; Writing::at_close.
    std::span<const unsigned char> image() const {
        void* buffer = nullptr;  // of the core driver: where its pointer to the bytes stands
        const ssize_t size = H5Fget_file_image(file.get(), nullptr, 0);
        check(size > 0 && H5Fget_vfd_handle(file.get(), H5P_DEFAULT, &buffer) >= 0 &&
                  buffer != nullptr,
              "complete", "the file");
        return {*static_cast<unsigned char**>(buffer), static_cast<std::size_t>(size)};
    }

    void make_groups(const std::string& name) const {
        // HDF5 could make them on the way, but with time stamps.
        for (std::size_t slash = name.find('/'); slash != std::string::npos;
             slash = name.find('/', slash + 1)) {
            const std::string group = name.substr(0, slash);
            if (group.empty()) continue;
            const htri_t exists = H5Lexists(file.get(), group.c_str(), H5P_DEFAULT);
            check(exists >= 0, "look up", group);
            if (exists > 0) continue;
            const Handle properties = creation_properties(H5P_GROUP_CREATE);
            const Handle made(
                H5Gcreate2(file.get(), group.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                H5Gclose);
            check(made.valid(), "create the group", group);
        }
    }

    Handle make_dataset(const std::string& name, hid_t type,
                        std::span<const std::int64_t> extents) const {
        expects(file.valid(), "Hdf5Writer: not closed yet");
        make_groups(name);
        const std::vector<hsize_t> sizes(extents.begin(), extents.end());
        const Handle space = sizes.empty() ? Handle(H5Screate(H5S_SCALAR), H5Sclose)
                                           : Handle(H5Screate_simple(static_cast<int>(sizes.size()),
                                                                     sizes.data(), nullptr),
                                                    H5Sclose);
        const Handle properties = creation_properties(H5P_DATASET_CREATE);
        H5Pset_layout(properties.get(), H5D_CONTIGUOUS);
        H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER);  // every element is written once
        Handle made(H5Dcreate2(file.get(), name.c_str(), type, space.get(), H5P_DEFAULT,
                               properties.get(), H5P_DEFAULT),
                    H5Dclose);
        check(made.valid(), "create", name);
        return made;
    }

    void write_attribute(const std::string& name, hid_t stored, hid_t in_memory,
                         const void* value) const {
        expects(file.valid(), "Hdf5Writer: not closed yet");
        const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
        Handle made(
            H5Acreate2(file.get(), name.c_str(), stored, space.get(), H5P_DEFAULT, H5P_DEFAULT),
            H5Aclose);
        check(made.valid() && H5Awrite(made.get(), in_memory, value) >= 0 && made.close(),
              "write the attribute", name);
    }
};

Hdf5Writer::Hdf5Writer(const std::filesystem::path& path, Writing writing)
    : impl_(std::make_unique<Impl>()) {
    const auto held = hold_library();
    impl_->path = path.string();
    impl_->writing = writing;
    const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V18);
    constexpr std::size_t step = std::size_t{64} << 20;  // by which the memory grows
    if (writing == Writing::at_close) H5Pset_fapl_core(access.get(), step, false);
    const Handle creation = creation_properties(H5P_FILE_CREATE);
    impl_->file = Handle(
        H5Fcreate(impl_->path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose);
    if (!impl_->file.valid()) impl_->fail("create the file");
}

Hdf5Writer::~Hdf5Writer() {
    const auto held = hold_library();
    impl_.reset();
}

void Hdf5Writer::write(const std::string& name, const void* data, DType type,
                       std::span<const std::int64_t> extents) {
    const auto held = hold_library();
    Handle dataset = impl_->make_dataset(name, file_type(type), extents);
    const bool empty = std::find(extents.begin(), extents.end(), 0) != extents.end();
    impl_->check(empty || H5Dwrite(dataset.get(), memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                                   data) >= 0,
                 "write", name);
    impl_->check(dataset.close(), "write", name);
}

void Hdf5Writer::write_strings(const std::string& name, std::span<const std::string> values) {
    const auto held = hold_library();
    std::size_t size = 1;
    for (const std::string& value : values) {
        expect_text(value);
        size = std::max(size, value.size());
    }
    std::string padded(size * values.size(), '\0');
    for (std::size_t i = 0; i < values.size(); ++i) values[i].copy(padded.data() + i * size, size);
    const Handle type = text_type(size);
    const std::int64_t count = static_cast<std::int64_t>(values.size());
    Handle dataset = impl_->make_dataset(name, type.get(), {&count, 1});
    impl_->check(values.empty() || H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL,
                                            H5P_DEFAULT, padded.data()) >= 0,
                 "write", name);
    impl_->check(dataset.close(), "write", name);
}

void Hdf5Writer::create(const std::string& name, DType type, std::int64_t elements) {
    const auto held = hold_library();
    expects(elements >= 0, "Hdf5Writer::create: elements");
    Handle dataset = impl_->make_dataset(name, file_type(type), {&elements, 1});
    impl_->open[name] = {std::move(dataset), type, elements, 0};
}

void Hdf5Writer::append(const std::string& name, const void* data, std::int64_t elements) {
    const auto held = hold_library();
    const auto found = impl_->open.find(name);
    expects(found != impl_->open.end(), "Hdf5Writer::append: after create() of the same name");
    Impl::Open& target = found->second;
    expects(elements >= 0 && elements <= target.elements - target.written,
            "Hdf5Writer::append: within the created size");
    if (elements == 0) return;
    const hsize_t start = static_cast<hsize_t>(target.written),
                  count = static_cast<hsize_t>(elements);
    const Handle space(H5Dget_space(target.dataset.get()), H5Sclose);
    const Handle memory(H5Screate_simple(1, &count, nullptr), H5Sclose);
    const bool good = H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, &start, nullptr, &count,
                                          nullptr) >= 0 &&
                      H5Dwrite(target.dataset.get(), memory_type(target.type), memory.get(),
                               space.get(), H5P_DEFAULT, data) >= 0;
    impl_->check(good, "write", name);
    target.written += elements;
}

void Hdf5Writer::attribute(const std::string& name, std::int64_t value) {
    const auto held = hold_library();
    impl_->write_attribute(name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

void Hdf5Writer::attribute(const std::string& name, double value) {
    const auto held = hold_library();
    impl_->write_attribute(name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

void Hdf5Writer::attribute(const std::string& name, const std::string& value) {
    const auto held = hold_library();
    expect_text(value);
    const Handle type = text_type(std::max<std::size_t>(value.size(), 1));
    impl_->write_attribute(name, type.get(), type.get(), value.c_str());
}

void Hdf5Writer::close() {
    auto held = hold_library();
    if (!impl_->file.valid()) return;
    for (auto& [name, target] : impl_->open) {
        expects(target.written == target.elements,
                "Hdf5Writer::close: every created dataset is complete");
        impl_->check(target.dataset.close(), "write", name);
    }
    impl_->open.clear();
    impl_->check(H5Fflush(impl_->file.get(), H5F_SCOPE_GLOBAL) >= 0, "complete", "the file");
    if (impl_->writing == Writing::at_close) {
        const auto bytes = impl_->image();
        held.unlock();
        write_bytes(impl_->path, bytes);
        held.lock();
    }
    impl_->check(impl_->file.close(), "complete", "the file");
}

}  // namespace deeplab::io
