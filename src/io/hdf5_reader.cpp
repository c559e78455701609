// Reading HDF5 through the C library. What a damaged file claims is checked before it is believed.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <map>
#include <system_error>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/foreign.h"
#include "deeplab/io/hdf5.h"
#include "hdf5_support.h"

namespace deeplab::io {

namespace {

std::string unpadded(const char* text, std::size_t size) {
    return {text, static_cast<std::size_t>(std::find(text, text + size, '\0') - text)};
}

}  // namespace

struct Hdf5Reader::Impl {
    struct Dataset {
        Handle dataset;
        Handle type;
        std::vector<std::int64_t> extents;
        std::int64_t elements = 1;
    };

    std::string path;
    std::uint64_t bytes = 0;  // of the file: no dataset is larger
    Handle file;
    std::map<std::string, Dataset> datasets;  // opened so far

    [[noreturn]] void fail(const std::string& problem) const {
        throw DataError(cat(problem, " (", path,
                            ") — nothing is taken from it — check that it is the right file, "
                            "and make or fetch it again"));
    }
    [[noreturn]] void fail_library(const std::string& action) const {
        fail(cat("cannot ", action, ": ", last_problem()));
    }

    bool exists(const std::string& name) const {
        // HDF5 asks for every step of a path on its own.
        for (std::size_t slash = name.find('/');; slash = name.find('/', slash + 1)) {
            const std::string step = name.substr(0, slash);
            if (!step.empty()) {
                const htri_t found = H5Lexists(file.get(), step.c_str(), H5P_DEFAULT);
                if (found < 0) fail_library(cat("look up ", step));
                if (found == 0) return false;
            }
            if (slash == std::string::npos) return true;
        }
    }

    const Dataset& at(const std::string& name) {
        const auto known = datasets.find(name);
        if (known != datasets.end()) return known->second;
        if (!exists(name)) fail(cat("there is no dataset ", name));
        Dataset made;
        made.dataset = Handle(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT), H5Dclose);
        if (!made.dataset.valid()) fail_library(cat("open ", name));
        made.type = Handle(H5Dget_type(made.dataset.get()), H5Tclose);
        const Handle space(H5Dget_space(made.dataset.get()), H5Sclose);
        const int rank = H5Sget_simple_extent_ndims(space.get());
        if (!made.type.valid() || rank < 0) fail_library(cat("open ", name));
        std::vector<hsize_t> sizes(static_cast<std::size_t>(rank));
        if (rank > 0 && H5Sget_simple_extent_dims(space.get(), sizes.data(), nullptr) < 0)
            fail_library(cat("open ", name));
        check_size(name, made.dataset.get(), H5Tget_size(made.type.get()), sizes);
        made.extents.assign(sizes.begin(), sizes.end());
        for (const std::int64_t extent : made.extents) made.elements *= extent;
        return datasets.emplace(name, std::move(made)).first->second;
    }

    // Damaged sizes must not reach an allocation: without compression, nothing is larger than the
    // file. Extents beside a zero are held to the same limit, so that their product cannot overflow
    // in any order.
    void check_size(const std::string& name, hid_t dataset, std::size_t element,
                    const std::vector<hsize_t>& sizes) const {
        const Handle properties(H5Dget_create_plist(dataset), H5Pclose);
        const H5D_layout_t layout = H5Pget_layout(properties.get());
        if (layout != H5D_CONTIGUOUS && layout != H5D_COMPACT) {
            fail(cat("the dataset ", name,
                     " is stored in chunks or elsewhere; a contiguous one is needed"));
        }
        if (H5Pget_external_count(properties.get()) != 0)
            fail(cat("the dataset ", name, " lies in another file"));
        std::uint64_t room = element == 0 ? 0 : bytes / element;
        for (const hsize_t size : sizes) {
            if (size > room)
                fail(cat("the dataset ", name, " claims more elements than the file can hold"));
            if (size > 0) room /= size;
        }
    }

    bool is_type(hid_t type, DType wanted) const {
        const H5T_class_t kind = H5Tget_class(type);
        const bool floating = wanted == DType::f32 || wanted == DType::f64;
        if (H5Tget_size(type) != size_of(wanted)) return false;
        if (floating) return kind == H5T_FLOAT;
        const bool is_signed = wanted == DType::i32 || wanted == DType::i64;
        return kind == H5T_INTEGER && (H5Tget_sign(type) == H5T_SGN_2) == is_signed;
    }

    Handle attribute(const std::string& name) const {
        const htri_t found = H5Aexists(file.get(), name.c_str());
        if (found == 0) fail(cat("there is no attribute ", name));
        Handle made(found < 0 ? -1 : H5Aopen(file.get(), name.c_str(), H5P_DEFAULT), H5Aclose);
        if (!made.valid()) fail_library(cat("open the attribute ", name));
        const Handle space(H5Aget_space(made.get()), H5Sclose);
        if (H5Sget_simple_extent_npoints(space.get()) != 1)
            fail(cat("the attribute ", name, " is not a single value"));
        return made;
    }
};

Hdf5Reader::Hdf5Reader(const std::filesystem::path& path) : impl_(std::make_unique<Impl>()) {
    const auto held = hold_library();
    impl_->path = path.string();
    std::error_code problem;
    impl_->bytes = std::filesystem::file_size(path, problem);
    if (problem) impl_->fail(cat("cannot open the file: ", problem.message()));
    errno = 0;
    impl_->file = Handle(H5Fopen(impl_->path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
    const int number = errno;
    if (impl_->file.valid()) return;
    if (is_machines_failure(number)) throw_machines_failure("open", impl_->path, number);
    std::vector<unsigned char> head(1024);
    std::ifstream in(path, std::ios::binary);
    in.read(reinterpret_cast<char*>(head.data()), static_cast<std::streamsize>(head.size()));
    head.resize(static_cast<std::size_t>(in.gcount()));
    if (const auto foreign = foreign_file(head)) {
        throw DataError(cat(impl_->path, " is ", foreign->what,
                            " — nothing can be taken from it — ", foreign->remedy));
    }
    impl_->fail_library("open the file");
}

Hdf5Reader::~Hdf5Reader() {
    const auto held = hold_library();
    impl_.reset();
}

bool Hdf5Reader::has(const std::string& name) const {
    const auto held = hold_library();
    return impl_->exists(name);
}

std::vector<std::string> Hdf5Reader::list(const std::string& group) const {
    const auto held = hold_library();
    const std::string name = group.empty() ? "/" : group;
    if (name != "/" && !impl_->exists(name)) impl_->fail(cat("there is no group ", name));
    const Handle opened(H5Gopen2(impl_->file.get(), name.c_str(), H5P_DEFAULT), H5Gclose);
    if (!opened.valid()) impl_->fail_library(cat("open the group ", name));
    std::vector<std::string> names;
    const auto visit = [](hid_t, const char* link, const H5L_info_t*, void* target) -> herr_t {
        static_cast<std::vector<std::string>*>(target)->emplace_back(link);
        return 0;
    };
    // Sorted here: for its own sorting HDF5 1.10 builds a table that it frees wrongly when the
    // group is damaged.
    if (H5Literate(opened.get(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, visit, &names) < 0) {
        impl_->fail_library(cat("list the group ", name));
    }
    std::sort(names.begin(), names.end());
    return names;
}

std::vector<std::int64_t> Hdf5Reader::extents(const std::string& name) const {
    const auto held = hold_library();
    return impl_->at(name).extents;
}

DType Hdf5Reader::type(const std::string& name) const {
    const auto held = hold_library();
    const hid_t type = impl_->at(name).type.get();
    for (const DType known :
         {DType::f32, DType::f64, DType::u8, DType::i32, DType::i64, DType::u64}) {
        if (impl_->is_type(type, known)) return known;
    }
    impl_->fail(cat("the dataset ", name, " has an element type that is not used here"));
}

void Hdf5Reader::read(const std::string& name, void* data, DType type, std::int64_t first,
                      std::int64_t elements) const {
    const auto held = hold_library();
    const Impl::Dataset& source = impl_->at(name);
    if (!impl_->is_type(source.type.get(), type)) {
        impl_->fail(cat("the dataset ", name, " does not hold ", deeplab::name(type), " values"));
    }
    if (first < 0 || elements < 0 || first > source.elements ||
        elements > source.elements - first) {
        impl_->fail(cat("the dataset ", name, " has ", source.elements, " elements, but ", elements,
                        " from number ", first, " are asked for"));
    }
    const std::size_t rank = source.extents.size();
    std::vector<hsize_t> start(rank), count(rank);
    const Handle space(H5Dget_space(source.dataset.get()), H5Sclose);
    auto* target = static_cast<std::byte*>(data);
    // A flat range of an array is a few blocks: rows up to the next full slice, slices, rest rows.
    // Each turn takes the largest block that begins at `first`: whole rows of the outermost axis
    // whose stride divides `first`.
    while (elements > 0) {
        std::int64_t taken = elements, stride = source.elements, offset = first;
        bool found = rank == 0;
        for (std::size_t axis = 0; axis < rank; ++axis) {
            stride /= source.extents[axis];
            start[axis] = static_cast<hsize_t>(offset / stride);
            offset %= stride;
            count[axis] = found ? static_cast<hsize_t>(source.extents[axis]) : 1;
            if (!found && offset == 0 && elements >= stride) {
                const std::int64_t rows = std::min(
                    source.extents[axis] - static_cast<std::int64_t>(start[axis]),
                    elements / stride);
                count[axis] = static_cast<hsize_t>(rows);
                taken = rows * stride;
                found = true;
            }
        }
        const hsize_t flat = static_cast<hsize_t>(taken);
        const Handle memory(H5Screate_simple(1, &flat, nullptr), H5Sclose);
        const bool good = (rank == 0 ||
                           H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr,
                                               count.data(), nullptr) >= 0) &&
                          H5Dread(source.dataset.get(), memory_type(type), memory.get(),
                                  space.get(), H5P_DEFAULT, target) >= 0;
        if (!good) impl_->fail_library(cat("read ", name));
        target += static_cast<std::size_t>(taken) * size_of(type);
        first += taken;
        elements -= taken;
    }
}

std::vector<std::string> Hdf5Reader::read_strings(const std::string& name) const {
    const auto held = hold_library();
    const Impl::Dataset& source = impl_->at(name);
    if (H5Tget_class(source.type.get()) != H5T_STRING ||
        H5Tis_variable_str(source.type.get()) > 0) {
        impl_->fail(cat("the dataset ", name, " does not hold texts of fixed length"));
    }
    const std::size_t size = H5Tget_size(source.type.get());
    std::string padded(size * static_cast<std::size_t>(source.elements), '\0');
    if (source.elements > 0 && H5Dread(source.dataset.get(), source.type.get(), H5S_ALL, H5S_ALL,
                                       H5P_DEFAULT, padded.data()) < 0) {
        impl_->fail_library(cat("read ", name));
    }
    std::vector<std::string> values(static_cast<std::size_t>(source.elements));
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = unpadded(padded.data() + i * size, size);
    return values;
}

bool Hdf5Reader::has_attribute(const std::string& name) const {
    const auto held = hold_library();
    const htri_t found = H5Aexists(impl_->file.get(), name.c_str());
    if (found < 0) impl_->fail_library(cat("look up the attribute ", name));
    return found > 0;
}

std::int64_t Hdf5Reader::attribute_int(const std::string& name) const {
    const auto held = hold_library();
    const Handle source = impl_->attribute(name);
    const Handle type(H5Aget_type(source.get()), H5Tclose);
    if (!impl_->is_type(type.get(), DType::i64) && !impl_->is_type(type.get(), DType::i32)) {
        impl_->fail(cat("the attribute ", name, " is not an integer"));
    }
    std::int64_t value = 0;
    if (H5Aread(source.get(), H5T_NATIVE_INT64, &value) < 0)
        impl_->fail_library(cat("read the attribute ", name));
    return value;
}

double Hdf5Reader::attribute_double(const std::string& name) const {
    const auto held = hold_library();
    const Handle source = impl_->attribute(name);
    const Handle type(H5Aget_type(source.get()), H5Tclose);
    if (H5Tget_class(type.get()) != H5T_FLOAT)
        impl_->fail(cat("the attribute ", name, " is not a number"));
    double value = 0;
    if (H5Aread(source.get(), H5T_NATIVE_DOUBLE, &value) < 0)
        impl_->fail_library(cat("read the attribute ", name));
    return value;
}

std::string Hdf5Reader::attribute_text(const std::string& name) const {
    const auto held = hold_library();
    const Handle source = impl_->attribute(name);
    const Handle type(H5Aget_type(source.get()), H5Tclose);
    const std::size_t size = H5Tget_size(type.get());
    if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) > 0 ||
        size > impl_->bytes) {
        impl_->fail(cat("the attribute ", name, " is not a text of fixed length"));
    }
    std::string text(size, '\0');
    if (H5Aread(source.get(), type.get(), text.data()) < 0)
        impl_->fail_library(cat("read the attribute ", name));
    return unpadded(text.data(), size);
}

}  // namespace deeplab::io
