// The files are taken apart with a reader of their own here; check_tensorboard.py does it with
// TensorBoard's.

#include "deeplab/io/tensorboard.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "harness/temp_dir.h"

namespace deeplab::io {
namespace {

using deeplab::testing::TempDir;

std::uint64_t little(const std::string& bytes, std::size_t at, std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i)
        value |= std::uint64_t{static_cast<unsigned char>(bytes.at(at + i))} << (8 * i);
    return value;
}

// Bit by bit, unlike the table of the writer.
std::uint32_t masked_crc(const std::string& bytes) {
    std::uint32_t crc = 0xFFFFFFFF;
    for (const char c : bytes) {
        crc ^= static_cast<unsigned char>(c);
        for (int bit = 0; bit < 8; ++bit)
            crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
    }
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

std::vector<std::string> records_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    std::vector<std::string> records;
    for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t length = little(bytes, at, 8);
        EXPECT_EQ(little(bytes, at + 8, 4), masked_crc(bytes.substr(at, 8)));
        records.push_back(bytes.substr(at + 12, length));
        EXPECT_EQ(little(bytes, at + 12 + length, 4), masked_crc(records.back()));
        at += 16 + length;
    }
    return records;
}

// The fields of a protobuf message: numbers as their bits, the rest as bytes.
struct Field {
    std::uint64_t number = 0, bits = 0;
    std::string bytes;
};

std::vector<Field> fields_of(const std::string& message) {
    std::size_t at = 0;
    const auto varint = [&] {
        std::uint64_t value = 0;
        for (int shift = 0;; shift += 7) {
            const auto byte = static_cast<unsigned char>(message.at(at++));
            value |= std::uint64_t{byte & 0x7Fu} << shift;
            if (byte < 0x80) return value;
        }
    };
    std::vector<Field> fields;
    while (at < message.size()) {
        const std::uint64_t key = varint();
        Field field{key >> 3, 0, ""};
        if ((key & 7) == 0) {
            field.bits = varint();
        } else if ((key & 7) == 2) {
            field.bits = varint();
            field.bytes = message.substr(at, field.bits);
            at += field.bits;
        } else {
            const std::size_t width = (key & 7) == 1 ? 8 : 4;
            field.bits = little(message, at, width);
            at += width;
        }
        fields.push_back(field);
    }
    return fields;
}

const Field& get(const std::vector<Field>& fields, std::uint64_t number) {
    const auto found = std::find_if(fields.begin(), fields.end(),
                                    [&](const Field& f) { return f.number == number; });
    if (found == fields.end()) throw std::out_of_range("no such field");
    return *found;
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& dir) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(dir))
        files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

// The check value of CRC-32C in every catalogue, masked: proves the reference above.
TEST(TensorBoard, ReferenceCrc) {
    EXPECT_EQ(masked_crc("123456789"), ((0xE3069283u >> 15) | (0xE3069283u << 17)) + 0xA282EAD8u);
}

TEST(TensorBoard, ScalarsAndImages) {
    const TempDir dir;
    const Image image{3, 2, std::vector<std::uint8_t>(18, 200)};
    {
        EventWriter writer(dir / "tensorboard", -1);
        writer.scalar("train/loss", 100, 0.5);
        writer.flush();
        const std::size_t so_far = records_of(files_in(dir / "tensorboard").at(0)).size();
        EXPECT_EQ(so_far, 2u) << "flush() brings everything into the file";
        writer.image("val/example", 300, image);
    }
    const auto files = files_in(dir / "tensorboard");
    ASSERT_EQ(files.size(), 1u);
    EXPECT_EQ(files[0].filename().string().find("events.out.tfevents."), 0u);
    const auto records = records_of(files[0]);
    ASSERT_EQ(records.size(), 3u);
    EXPECT_EQ(get(fields_of(records[0]), 3).bytes, "brain.Event:2");
    EXPECT_GT(std::bit_cast<double>(get(fields_of(records[0]), 1).bits), 1.6e9);

    const auto scalar = fields_of(records[1]);
    EXPECT_EQ(get(scalar, 2).bits, 100u);
    const auto value = fields_of(get(fields_of(get(scalar, 5).bytes), 1).bytes);
    EXPECT_EQ(get(value, 1).bytes, "train/loss");
    EXPECT_EQ(std::bit_cast<float>(static_cast<std::uint32_t>(get(value, 2).bits)), 0.5f);

    const auto picture = fields_of(records[2]);
    EXPECT_EQ(get(picture, 2).bits, 300u);
    const auto content = fields_of(
        get(fields_of(get(fields_of(get(picture, 5).bytes), 1).bytes), 4).bytes);
    EXPECT_EQ(get(content, 1).bits, 2u);
    EXPECT_EQ(get(content, 2).bits, 3u);
    EXPECT_EQ(get(content, 3).bits, 3u);
    const std::string& png = get(content, 4).bytes;
    const std::vector<std::uint8_t> bytes(png.begin(), png.end());
    EXPECT_EQ(decode_image(bytes, "event").pixels, image.pixels);
}

TEST(TensorBoard, ResumedRunPurgesAndSortsLater) {
    const TempDir dir;
    // A file of a node whose clock is ahead.
    std::ofstream(dir / "events.out.tfevents.9000000000.000005.1").close();
    EventWriter(dir.path(), -1).scalar("a", 1, 1);
    EventWriter(dir.path(), 7).scalar("a", 7, 2);
    const auto files = files_in(dir.path());
    ASSERT_EQ(files.size(), 3u);
    EXPECT_EQ(records_of(files[1]).size(), 2u);
    const auto records = records_of(files[2]);
    ASSERT_EQ(records.size(), 3u);
    EXPECT_EQ(get(fields_of(records[0]), 3).bytes, "brain.Event:2");
    EXPECT_EQ(get(fields_of(records[1]), 2).bits, 7u);
    EXPECT_EQ(get(fields_of(get(fields_of(records[1]), 7).bytes), 1).bits, 1u)
        << "SessionLog START";
}

TEST(TensorBoard, FolderThatCannotBeMade) {
    const TempDir dir;
    std::ofstream(dir / "file").close();
    EXPECT_THROW(EventWriter(dir / "file", -1), Error);
    EXPECT_THROW(EventWriter(dir / "file" / "below", -1), Error);
}

}  // namespace
}  // namespace deeplab::io
