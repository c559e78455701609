// What the loader says of damaged data and of options that do not fit.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <thread>
#include <tuple>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/data/loader.h"
#include "harness/temp_dir.h"
#include "loader_records.h"

namespace deeplab::data {
namespace {

// Batches before the bad record arrive, the one with it throws, again and again.
void expect_data_error(const LoaderOptions& options, std::int64_t bad_record, std::size_t records,
                       const std::vector<std::string>& words) {
    Loader loader(options);
    for (std::uint64_t p = 0;; p += 2) {
        const bool bad = sample_at(p, records, options.seed).sample == bad_record ||
                         sample_at(p + 1, records, options.seed).sample == bad_record;
        if (!bad) {
            ASSERT_NO_THROW(loader.next());
            continue;
        }
        for (int again = 0; again < 2; ++again) {
            try {
                loader.next();
                FAIL() << "the record was taken";
            } catch (const DataError& error) {
                for (const std::string& word : words) {
                    EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
                        << error.what() << " lacks " << word;
                }
            }
        }
        return;
    }
}

LoaderOptions pairs(const std::filesystem::path& dir) {
    LoaderOptions options = options_for(dir);
    options.global_batch = 2;
    options.last_step = 50;
    options.workers = 3;
    return options;
}

TEST_F(LoaderTest, AForeignLabelNamesRecordAndShard) {
    Records records = make_records(10, Encoding::raw);
    records[7].mask[41] = 5;  // five classes: 0 to 4
    pack(dir.path(), records);
    expect_data_error(pairs(dir.path()), 7, 10,
                      {"label 5", "id_7", shard_name("train", 1, 2), "record 2"});
}

TEST_F(LoaderTest, ADamagedImageNamesRecordAndShard) {
    Records records = make_records(10, Encoding::source);
    records[3].image.resize(records[3].image.size() / 2);
    pack(dir.path(), records, Encoding::source);
    expect_data_error(pairs(dir.path()), 3, 10, {"id_3", shard_name("train", 0, 2)});
}

TEST_F(LoaderTest, SizesThatDisagreeNameRecordAndShard) {
    Records records = make_records(10, Encoding::raw);
    records[9].mask.pop_back();
    pack(dir.path(), records);
    expect_data_error(pairs(dir.path()), 9, 10, {"id_9", shard_name("train", 1, 2)});
}

// A flipped bit that would decode to plausible pixels: the reader thread finds it by the record's
// checksum.
TEST_F(LoaderTest, AFlippedBitNamesTheRecord) {
    const Records records = make_records(10, Encoding::raw);
    pack(dir.path(), records);
    const std::filesystem::path shard = dir.path() / shard_name("train", 1, 2);
    const std::string bytes = read_text(shard);
    const std::string needle(records[8].image.begin(), records[8].image.begin() + 64);
    const std::size_t at = bytes.find(needle);
    ASSERT_NE(at, std::string::npos);
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(needle[0] ^ 1));
    file.close();
    expect_data_error(pairs(dir.path()), 8, 10, {"id_8", shard_name("train", 1, 2)});
}

TEST_F(LoaderTest, AMissingShardIsADataError) {
    pack(dir.path(), make_records(10, Encoding::raw));
    std::filesystem::remove(dir.path() / shard_name("train", 0, 2));
    std::filesystem::remove(dir.path() / shard_name("train", 1, 2));
    Loader loader(options_for(dir.path()));
    EXPECT_THROW(loader.next(), DataError);
}

TEST_F(LoaderTest, RefusesWhatCannotBeDivided) {
    pack(dir.path(), make_records(10, Encoding::raw));
    LoaderOptions options = options_for(dir.path());
    options.size = 5;
    EXPECT_THROW(Loader{options}, UsageError);
    options.size = 1;
    options.split = "absent";
    EXPECT_THROW(Loader{options}, DataError);
}

}  // namespace
}  // namespace deeplab::data
