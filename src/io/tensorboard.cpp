// TensorBoard event files. Four small protobuf messages are all they need, so the wire format is
// written here (https://protobuf.dev/programming-guides/encoding): a library would bring a code
// generator into the build.
//
//   Event       1 wall_time double, 2 step int64, 3 file_version string, 5 summary Summary, 7
//   session_log SessionLog SessionLog  1 status enum (START = 1) Summary     1 value Value
//   (repeated) Value       1 tag string, 2 simple_value float, 4 image Image Image       1 height
//   int32, 2 width int32, 3 colorspace int32 (3 = RGB), 4 encoded_image_string bytes
//
// Field numbers: tensorboard/compat/proto/event.proto and summary.proto. TFRecord framing, all
// little-endian: u64 length, u32 masked CRC-32C of the length, the record, u32 masked CRC-32C of
// the record.

#include "deeplab/io/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <system_error>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::io {

namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";

template <class Unsigned>
void append_little(std::string& out, Unsigned value) {
    for (std::size_t i = 0; i < sizeof value; ++i)
        out += static_cast<char>(value >> (8 * i) & 0xFF);
}

void append_varint(std::string& out, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
    out += static_cast<char>(value);
}

// A field starts with its number and how it is encoded: 0 varint, 1 eight bytes, 2 length and
// bytes, 5 four bytes.
void append_integer(std::string& out, unsigned field, std::int64_t value) {
    append_varint(out, field << 3 | 0);
    append_varint(out, static_cast<std::uint64_t>(value));
}
void append_double(std::string& out, unsigned field, double value) {
    append_varint(out, field << 3 | 1);
    append_little(out, std::bit_cast<std::uint64_t>(value));
}
void append_float(std::string& out, unsigned field, float value) {
    append_varint(out, field << 3 | 5);
    append_little(out, std::bit_cast<std::uint32_t>(value));
}
void append_bytes(std::string& out, unsigned field, std::string_view bytes) {
    append_varint(out, field << 3 | 2);
    append_varint(out, bytes.size());
    out += bytes;
}

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), masked as in TensorFlow's record_writer: a
// CRC over data that holds CRCs is weak.
std::uint32_t masked_crc32c(std::string_view bytes) {
    static const std::array<std::uint32_t, 256> table = [] {
        std::array<std::uint32_t, 256> made{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t crc = i;
            for (int bit = 0; bit < 8; ++bit)
                crc = (crc & 1) != 0 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
            made[i] = crc;
        }
        return made;
    }();
    std::uint32_t crc = 0xFFFFFFFFu;
    for (const char c : bytes) crc = table[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ crc >> 8;
    crc = ~crc;
    return std::rotr(crc, 15) + 0xA282EAD8u;
}

std::int64_t microseconds_now() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// "events.out.tfevents.<seconds>.<microseconds>.<process>". TensorBoard reads the files of a folder
// in name order, so the time is moved behind every file that is there already: another node's clock
// may be ahead.
std::string next_name(const std::filesystem::path& dir) {
    std::int64_t time = microseconds_now();
    for (const auto& entry : std::filesystem::directory_iterator(dir)) {
        const std::string other = entry.path().filename().string();
        if (!other.starts_with(kPrefix)) continue;
        long long seconds = 0, micros = 0;
        if (std::sscanf(other.c_str() + kPrefix.size(), "%10lld.%6lld", &seconds, &micros) < 1)
            continue;
        time = std::max(time, static_cast<std::int64_t>(seconds * 1000000 + micros + 1));
    }
    char stamp[64];
    std::snprintf(stamp, sizeof stamp, "%010lld.%06lld.%ld", static_cast<long long>(time / 1000000),
                  static_cast<long long>(time % 1000000), static_cast<long>(getpid()));
    return cat(kPrefix, stamp);
}

}  // namespace

struct EventWriter::Impl {
    std::filesystem::path path;
    int file = -1;
    std::string pending;  // complete records that are not in the file yet

    ~Impl() {
        if (file >= 0) close(file);
    }

    [[noreturn]] void fail(const char* action) const {
        throw DeviceError(
            cat("cannot ", action, " ", path.string(), ": ", std::strerror(errno),
                " — the TensorBoard log would be incomplete — make room, or check the folder"));
    }

    void event(std::int64_t step, unsigned field, std::string_view content) {
        std::string record;
        append_double(record, 1, static_cast<double>(microseconds_now()) * 1e-6);
        append_integer(record, 2, step);
        append_bytes(record, field, content);
        std::string length;
        append_little(length, static_cast<std::uint64_t>(record.size()));
        pending += length;
        append_little(pending, masked_crc32c(length));
        pending += record;
        append_little(pending, masked_crc32c(record));
        if (pending.size() > (std::size_t{1} << 20)) write_pending();
    }

    // `value` without its tag.
    void summary(const std::string& tag, std::int64_t step, const std::string& value) {
        std::string tagged, content;
        append_bytes(tagged, 1, tag);
        tagged += value;
        append_bytes(content, 1, tagged);
        event(step, 5, content);
    }

    void write_pending() {
        std::size_t done = 0;
        while (done < pending.size()) {
            const ssize_t count = ::write(file, pending.data() + done, pending.size() - done);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) {
                pending.erase(0, done);  // a later try goes on where this one stopped
                fail("write");
            }
            done += static_cast<std::size_t>(count);
        }
        pending.clear();
    }
};

EventWriter::EventWriter(const std::filesystem::path& dir, std::int64_t purge_from)
    : impl_(std::make_unique<Impl>()) {
    std::error_code problem;
    std::filesystem::create_directories(dir, problem);
    impl_->path = dir;
    if (problem) {
        errno = problem.value();
        impl_->fail("create");
    }
    impl_->path = dir / next_name(dir);
    impl_->file = open(impl_->path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC,
                       0644);
    if (impl_->file < 0) impl_->fail("create");
    impl_->event(0, 3, "brain.Event:2");
    if (purge_from >= 0) {
        std::string started;
        append_integer(started, 1, 1);
        impl_->event(purge_from, 7, started);
    }
    impl_->write_pending();
}

EventWriter::~EventWriter() {
    try {
        impl_->write_pending();
    } catch (const Error&) {
        // flush() is where a caller learns of a full disk; a destructor cannot tell.
    }
}

void EventWriter::scalar(const std::string& tag, std::int64_t step, double value) {
    std::string content;
    append_float(content, 2, static_cast<float>(value));
    impl_->summary(tag, step, content);
}

void EventWriter::image(const std::string& tag, std::int64_t step, const Image& image) {
    const std::vector<std::uint8_t> png = encode_png(image);
    std::string content, value;
    append_integer(content, 1, image.height);
    append_integer(content, 2, image.width);
    append_integer(content, 3, 3);
    append_bytes(content, 4, {reinterpret_cast<const char*>(png.data()), png.size()});
    append_bytes(value, 4, content);
    impl_->summary(tag, step, value);
}

void EventWriter::flush() { impl_->write_pending(); }

}  // namespace deeplab::io
