#include "descriptor.h"

#include <array>

#include "check.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::cuda {
namespace {

std::string last_error() {
    std::array<char, 512> text{};
    cudnnGetLastErrorString(text.data(), text.size());
    return trim(text.data());
}

bool unsupported(cudnnStatus_t status) {
    return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED;
}

}  // namespace

void check(cudnnStatus_t status, const char* what) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    const std::string detail = last_error();
    throw DeviceError(cat("cuDNN failed in ", what, ": ", cudnnGetErrorString(status),
                          detail.empty() ? "" : " (", detail, detail.empty() ? "" : ")",
                          " — the network cannot run on this device — look at the device with "
                          "nvidia-smi, and whether driver and cuDNN fit together"));
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
    check(cudnnBackendCreateDescriptor(type, &handle_), "creation of a descriptor");
}

Descriptor::~Descriptor() {
    if (handle_ != nullptr) cudnnBackendDestroyDescriptor(handle_);
}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                            std::int64_t count, const void* values) {
    const cudnnStatus_t status = cudnnBackendSetAttribute(handle_, name, type, count, values);
    if (status != CUDNN_STATUS_SUCCESS) check(status, cat("attribute ", name).c_str());
    return *this;
}

void Descriptor::finalize() { check(cudnnBackendFinalize(handle_), "completion of a descriptor"); }

bool Descriptor::finalize_if_supported() {
    const cudnnStatus_t status = cudnnBackendFinalize(handle_);
    if (unsupported(status)) return false;
    check(status, "completion of a descriptor");
    return true;
}

std::int64_t Descriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                             std::int64_t capacity, void* values) const {
    std::int64_t filled = 0;
    const cudnnStatus_t status = cudnnBackendGetAttribute(handle_, name, type, capacity, &filled,
                                                          values);
    if (status != CUDNN_STATUS_SUCCESS) check(status, cat("query of attribute ", name).c_str());
    return filled;
}

std::int64_t Descriptor::count(cudnnBackendAttributeName_t name,
                               cudnnBackendAttributeType_t type) const {
    return get(name, type, 0, nullptr);
}

std::int64_t Descriptor::get_int64(cudnnBackendAttributeName_t name) const {
    std::int64_t value = 0;
    get(name, CUDNN_TYPE_INT64, 1, &value);
    return value;
}

std::vector<Descriptor> Descriptor::get_descriptors(cudnnBackendAttributeName_t name,
                                                    cudnnBackendDescriptorType_t type,
                                                    std::int64_t capacity) const {
    std::vector<Descriptor> all;
    std::vector<cudnnBackendDescriptor_t> handles;
    for (std::int64_t i = 0; i < capacity; ++i) handles.push_back(all.emplace_back(type).get());
    const std::int64_t filled = get(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, capacity, handles.data());
    while (static_cast<std::int64_t>(all.size()) > filled) all.pop_back();
    return all;
}

CudnnHandle::CudnnHandle(cudaStream_t stream) : stream_(stream) {
    check(cudnnCreate(&handle_), "its start");
    const cudnnStatus_t status = cudnnSetStream(handle_, stream);
    if (status == CUDNN_STATUS_SUCCESS) return;
    cudnnDestroy(handle_);
    check(status, "choice of a stream");
}

CudnnHandle::~CudnnHandle() { cudnnDestroy(handle_); }

Target::Target(const CudnnHandle& handle) : handle_(handle.get()) {
    int device = 0;
    cudaDeviceProp properties{};
    check(cudaGetDevice(&device), "query of the device");
    check(cudaGetDeviceProperties(&properties, device), "query of the device");
    device_ = cat(properties.name, ", sm_", properties.major, properties.minor, ", ",
                  properties.multiProcessorCount, " SMs");
}

Target::Target(std::vector<Descriptor> properties, std::string device)
    : properties_(std::move(properties)), device_(std::move(device)) {}

Target Target::described(const std::string& json, std::string name) {
    std::vector<Descriptor> properties;
    properties.emplace_back(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)
        .set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
             static_cast<std::int64_t>(json.size()), json.data())
        .finalize();
    return {std::move(properties), std::move(name)};
}

void Target::set_handle(Descriptor& descriptor, cudnnBackendAttributeName_t name) const {
    if (!described()) descriptor.set(name, CUDNN_TYPE_HANDLE, 1, &handle_);
}

void Target::set_properties(Descriptor& descriptor, cudnnBackendAttributeName_t name) const {
    if (described()) descriptor.set(name, properties_.front());
}

std::string device_properties_json(int device) {
    Descriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    properties.set(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &device).finalize();
    const auto text = properties.get_list<char>(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                                CUDNN_TYPE_CHAR);
    return {text.begin(), text.end()};
}

}  // namespace deeplab::cuda
