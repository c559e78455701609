#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "deeplab/base/error.h"
#include "harness/temp_dir.h"
#include "pack.h"
#include "voc_folder.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

using deeplab::testing::TempDir;
using deeplab::testing::VocFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

class Verify : public ::testing::Test {
protected:
    Verify() {
        VocFolder voc(dir.path());
        ids = voc.fill(9);
        PackOptions options;
        options.voc = dir.path();
        options.split = "val";
        options.shards = 3;
        options.out = shards;
        EXPECT_EQ(pack(options, *comm), 0);
    }

    std::string problems() {
        ::testing::internal::CaptureStderr();
        const int code = verify(shards, *comm);
        const std::string text = ::testing::internal::GetCapturedStderr();
        EXPECT_EQ(code, 3) << text;
        return text;
    }

    std::string shard(int s) const { return data::shard_name("val", s, 3); }
    void flip(int s, std::int64_t at, int mask) const {
        std::fstream f(shards / shard(s), std::ios::in | std::ios::out | std::ios::binary);
        f.seekg(at);
        const char byte = static_cast<char>(f.get() ^ mask);
        f.seekp(at);
        f.put(byte);
    }

    TempDir dir;
    fs::path shards = dir / "shards";
    std::vector<std::string> ids;
    std::unique_ptr<comm::Communicator> comm = comm::make_self();
};

TEST_F(Verify, NamesTheRecordOfAFlippedBit) {
    const data::Record record = data::ShardSet(shards, "val").read(4);
    const auto all = read_bytes(shards / shard(1));
    const auto at = std::search(all.begin(), all.end(), record.image.begin(), record.image.end());
    ASSERT_NE(at, all.end());
    flip(1, at - all.begin() + 200, 4);
    const std::string text = problems();
    EXPECT_THAT(text, AllOf(HasSubstr("2 problems"), HasSubstr(shard(1)), HasSubstr("checksum"),
                            HasSubstr("CRC-32")));
    EXPECT_THAT(text, HasSubstr(record.id));
    EXPECT_EQ(text.find(shard(0)), std::string::npos);
}

TEST_F(Verify, FindsTruncatedMissingAndForeignShards) {
    fs::resize_file(shards / shard(0), fs::file_size(shards / shard(0)) / 2);
    fs::remove(shards / shard(1));
    fs::copy_file(shards / shard(2), shards / "val-00007-of-00009.h5");
    const std::string text = problems();
    EXPECT_THAT(
        text, AllOf(HasSubstr("2 problems"), HasSubstr("the manifest says"), HasSubstr("missing")));
    EXPECT_THAT(text, HasSubstr("val-00007-of-00009.h5 belongs to no manifest"));
}

// Every byte of a shard counts, those of HDF5's own structure too: no flip may crash the reader or
// pass.
TEST_F(Verify, NoFlippedBitPassesOrCrashes) {
    const auto size = static_cast<std::int64_t>(fs::file_size(shards / shard(2)));
    for (std::int64_t k = 0; k < 150; ++k) {
        // Densely over the first 3000 bytes, where the structure is, then anywhere.
        const std::int64_t at = k < 100 ? k * 30 % size : k * 7919 % size;
        const int mask = 1 << (k % 8);
        flip(2, at, mask);
        EXPECT_THAT(problems(), HasSubstr("checksum")) << "byte " << at;
        flip(2, at, mask);
    }
    EXPECT_EQ(verify(shards, *comm), 0);
}

TEST_F(Verify, ComparesTheCountsWithTheManifest) {
    data::Manifest m = data::load_manifest(shards, "val");
    m.class_pixels[3] += 1;
    m.class_images[0] -= 1;
    data::save_manifest(shards, m);
    EXPECT_THAT(problems(), AllOf(HasSubstr("pixels of bird"), HasSubstr("images with background"),
                                  HasSubstr("2 problems")));
    m = data::load_manifest(shards, "val");
    m.class_pixels[3] -= 1;
    m.class_images[0] += 1;
    m.list_hash ^= 8;
    data::save_manifest(shards, m);
    EXPECT_THAT(problems(), HasSubstr("list hash"));
}

TEST_F(Verify, DamagedManifestAndEmptyFolder) {
    fs::resize_file(shards / "val.json", 100);
    EXPECT_THAT(problems(), HasSubstr("manifest is damaged"));
    fs::remove(shards / "val.json");
    EXPECT_THROW(verify(shards, *comm), DataError);
    EXPECT_THROW(verify(dir / "nowhere", *comm), UsageError);
}

}  // namespace
}  // namespace deeplab::preprocess
