#pragma once
// Thin owners of what cuDNN's graph API hands out. Source: cuDNN's backend API reference (9.x);
// `attribute` names there are the enumerators here.

#include <cudnn_graph.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace deeplab::cuda {

// DeviceError that names the call and says what cuDNN itself says about it.
void check(cudnnStatus_t status, const char* what);

// One descriptor: created, attributes set, finalized; destroyed with the object.
class Descriptor {
public:
    explicit Descriptor(cudnnBackendDescriptorType_t type);
    ~Descriptor();
    Descriptor(Descriptor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }

    cudnnBackendDescriptor_t get() const { return handle_; }

    Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                    std::int64_t count, const void* values);
    Descriptor& set(cudnnBackendAttributeName_t name, std::int64_t value) {
        return set(name, CUDNN_TYPE_INT64, 1, &value);
    }
    Descriptor& set(cudnnBackendAttributeName_t name, const std::vector<std::int64_t>& values) {
        return set(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
    }
    Descriptor& set(cudnnBackendAttributeName_t name, double value) {
        return set(name, CUDNN_TYPE_DOUBLE, 1, &value);
    }
    Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value) {
        return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.handle_);
    }
    Descriptor& set(cudnnBackendAttributeName_t name, cudnnDataType_t value) {
        return set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
    }
    void finalize();
    // False where cuDNN says that it does not support this; DeviceError for any other failure.
    bool finalize_if_supported();

    std::int64_t count(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) const;
    std::int64_t get_int64(cudnnBackendAttributeName_t name) const;
    // An attribute that is a list of enumerators or numbers of type T.
    template <class T>
    std::vector<T> get_list(cudnnBackendAttributeName_t name,
                            cudnnBackendAttributeType_t type) const {
        std::vector<T> values(static_cast<std::size_t>(count(name, type)));
        values.resize(static_cast<std::size_t>(
            get(name, type, static_cast<std::int64_t>(values.size()), values.data())));
        return values;
    }
    // An attribute that is a list of descriptors of `type`, `capacity` at most.
    std::vector<Descriptor> get_descriptors(cudnnBackendAttributeName_t name,
                                            cudnnBackendDescriptorType_t type,
                                            std::int64_t capacity) const;

private:
    std::int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                     std::int64_t capacity, void* values) const;

    cudnnBackendDescriptor_t handle_ = nullptr;
};

// cuDNN on the current device, enqueuing on one stream. One thread at a time.
class CudnnHandle {
public:
    explicit CudnnHandle(cudaStream_t stream);
    ~CudnnHandle();
    CudnnHandle(const CudnnHandle&) = delete;
    CudnnHandle& operator=(const CudnnHandle&) = delete;

    cudnnHandle_t get() const { return handle_; }
    cudaStream_t stream() const { return stream_; }

private:
    cudnnHandle_t handle_ = nullptr;
    cudaStream_t stream_ = nullptr;
};

// What engine plans are made for: the device of a handle, or, where there is none, one that JSON
// describes (tests/cuda/device-properties; cuDNN 9.8 and later). Plans for the latter can be
// finalized, not executed.
class Target {
public:
    explicit Target(const CudnnHandle& handle);
    static Target described(const std::string& json, std::string name);

    // "NVIDIA H200, sm_90, 132 SMs": equal for devices for which equal engines are best.
    const std::string& device() const { return device_; }
    bool described() const { return !properties_.empty(); }
    // Tell a descriptor the device; each does nothing in the other's case.
    void set_handle(Descriptor& descriptor, cudnnBackendAttributeName_t name) const;
    void set_properties(Descriptor& descriptor, cudnnBackendAttributeName_t name) const;

private:
    Target(std::vector<Descriptor> properties, std::string device);

    cudnnHandle_t handle_ = nullptr;
    std::vector<Descriptor> properties_;  // none or one
    std::string device_;
};

// The description of a device that is there, for Target::described() elsewhere.
std::string device_properties_json(int device);

}  // namespace deeplab::cuda
