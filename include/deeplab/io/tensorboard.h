#pragma once
// TensorBoard event files (TFRecord framing, masked CRC-32C, protobuf Event).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "deeplab/io/image.h"

namespace deeplab::io {

class EventWriter {
public:
    // Appends a new events file to `dir`. With purge_from >= 0 it starts with a SessionLog START at
    // that step, so that readers drop what an earlier run wrote at that step and later.
    EventWriter(const std::filesystem::path& dir, std::int64_t purge_from);
    ~EventWriter();
    EventWriter(const EventWriter&) = delete;
    EventWriter& operator=(const EventWriter&) = delete;

    void scalar(const std::string& tag, std::int64_t step, double value);
    void image(const std::string& tag, std::int64_t step, const Image& image);  // stored as PNG
    void flush();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace deeplab::io
