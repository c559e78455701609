#pragma once
// HDF5 files of flat arrays and scalar attributes. Objects may be used from several threads, one
// thread an object at a time: calls into the library take turns. Reproducible: no time stamps are
// stored. File locking is off. Every failure is a DataError (reading) or an Error
// naming the file and the object.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "deeplab/base/types.h"

namespace deeplab::io {

class Hdf5Writer {
public:
    // at_close: the file is put together in memory and written by close(), while nobody is kept
    // from the library: a slow disk delays no reader, a full one leaves the library in order.
    enum class Writing { at_once, at_close };

    explicit Hdf5Writer(const std::filesystem::path& path,
                        Writing writing = Writing::at_once);  // truncates
    ~Hdf5Writer();
    Hdf5Writer(const Hdf5Writer&) = delete;
    Hdf5Writer& operator=(const Hdf5Writer&) = delete;

    // Contiguous dataset; `name` may contain groups ("parameters/backbone.conv1.weight"), created
    // as needed.
    void write(const std::string& name, const void* data, DType type,
               std::span<const std::int64_t> extents);
    void write_strings(const std::string& name, std::span<const std::string> values);
    // A dataset that is written piece by piece, in order.
    void create(const std::string& name, DType type, std::int64_t elements);
    void append(const std::string& name, const void* data, std::int64_t elements);

    void attribute(const std::string& name, std::int64_t value);  // of the file
    void attribute(const std::string& name, double value);
    void attribute(const std::string& name, const std::string& value);
    void close();  // flushes; errors are thrown here, not by the destructor

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

class Hdf5Reader {
public:
    explicit Hdf5Reader(const std::filesystem::path& path);
    ~Hdf5Reader();
    Hdf5Reader(const Hdf5Reader&) = delete;
    Hdf5Reader& operator=(const Hdf5Reader&) = delete;

    bool has(const std::string& name) const;
    std::vector<std::string> list(const std::string& group) const;  // in name order
    std::vector<std::int64_t> extents(const std::string& name) const;
    DType type(const std::string& name) const;
    // `elements` from `first` of a dataset taken as flat; types must agree. Checked against the
    // extents before reading.
    void read(const std::string& name, void* data, DType type, std::int64_t first,
              std::int64_t elements) const;
    template <class T>
    std::vector<T> read_all(const std::string& name, DType type) const {
        std::int64_t elements = 1;
        for (const std::int64_t e : extents(name)) elements *= e;
        std::vector<T> values(static_cast<std::size_t>(elements));
        read(name, values.data(), type, 0, elements);
        return values;
    }
    std::vector<std::string> read_strings(const std::string& name) const;

    bool has_attribute(const std::string& name) const;
    std::int64_t attribute_int(const std::string& name) const;
    double attribute_double(const std::string& name) const;
    std::string attribute_text(const std::string& name) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace deeplab::io
