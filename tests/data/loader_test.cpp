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

struct Crop {
    std::vector<float> image;
    std::vector<std::uint8_t> labels;
    std::uint32_t epoch, sample;
    std::string id;
    bool operator==(const Crop&) const = default;
};

std::vector<Crop> crops_of(const Batch& batch) {
    const std::size_t n = batch.keys.size(), labels = batch.labels.size() / n,
                      values = batch.images.size() / n;
    std::vector<Crop> crops;
    for (std::size_t i = 0; i < n; ++i) {
        const float* image = batch.images.data() + i * values;
        const std::uint8_t* label = batch.labels.data() + i * labels;
        crops.push_back({{image, image + values},
                         {label, label + labels},
                         batch.keys[i].epoch,
                         batch.keys[i].sample,
                         batch.ids[i]});
    }
    return crops;
}

// The global stream, put together from all ranks as the header defines it.
std::vector<Crop> stream(LoaderOptions options, int ranks) {
    std::vector<std::unique_ptr<Loader>> loaders;
    for (int r = 0; r < ranks; ++r) {
        options.rank = r;
        options.size = ranks;
        loaders.push_back(std::make_unique<Loader>(options));
    }
    std::vector<Crop> all;
    for (std::int64_t step = options.first_step; step < options.last_step; ++step) {
        for (std::int64_t micro = 0; micro < options.accumulation; ++micro) {
            for (const auto& loader : loaders) {
                const Batch batch = loader->next();
                EXPECT_EQ(batch.step, step);
                EXPECT_EQ(batch.micro, micro);
                EXPECT_EQ(batch.valid_pixels,
                          std::count_if(batch.labels.begin(), batch.labels.end(),
                                        [](int v) { return v != 255; }));
                for (Crop& crop : crops_of(batch)) all.push_back(std::move(crop));
            }
        }
    }
    for (const auto& loader : loaders) EXPECT_THROW(loader->next(), LogicError);
    return all;
}

TEST_F(LoaderTest, DeliversTheStreamInOrder) {
    const Records records = make_records(10, Encoding::raw);
    pack(dir.path(), records);
    const LoaderOptions options = options_for(dir.path());
    const std::vector<Crop> crops = stream(options, 1);
    ASSERT_EQ(crops.size(), 48u);  // four epochs and eight samples of the fifth
    std::map<std::uint32_t, std::set<std::uint32_t>> epochs;
    for (std::size_t p = 0; p < crops.size(); ++p) {
        const math::SampleKey key = sample_at(p, 10, 5);
        ASSERT_EQ(crops[p].epoch, key.epoch);
        ASSERT_EQ(crops[p].sample, key.sample);
        ASSERT_EQ(crops[p].epoch, p / 10);
        const Record& record = records[key.sample];
        ASSERT_EQ(crops[p].id, record.id);
        const Sample wanted = augment({record.width, record.height, record.image},
                                      {record.width, record.height, record.mask},
                                      options.augmentation, options.normalisation, 255, 5, key);
        ASSERT_EQ(crops[p].image, wanted.image);
        ASSERT_EQ(crops[p].labels, wanted.labels);
        epochs[key.epoch].insert(key.sample);
    }
    for (std::uint32_t e = 0; e < 4; ++e) EXPECT_EQ(epochs[e].size(), 10u);
}

TEST_F(LoaderTest, RanksAndAccumulationDoNotChangeTheStream) {
    pack(dir.path(), make_records(10, Encoding::raw), Encoding::raw, 3);
    LoaderOptions options = options_for(dir.path());
    const std::vector<Crop> wanted = stream(options, 1);
    for (const int ranks : {1, 2, 3}) {
        for (const int accumulation : {1, 2}) {
            options.accumulation = accumulation;
            EXPECT_TRUE(stream(options, ranks) == wanted)
                << ranks << " ranks, accumulation " << accumulation;
        }
    }
}

TEST_F(LoaderTest, WorkersQueueAndCacheDoNotChangeTheStream) {
    pack(dir.path(), make_records(10, Encoding::source), Encoding::source);
    LoaderOptions options = options_for(dir.path());
    const std::vector<Crop> wanted = stream(options, 1);
    options.workers = 3;
    EXPECT_TRUE(stream(options, 1) == wanted) << "three workers";
    options.queue = 1;
    EXPECT_TRUE(stream(options, 1) == wanted) << "queue of one";
    options.cache_host = true;
    EXPECT_TRUE(stream(options, 1) == wanted) << "cached";
}

TEST_F(LoaderTest, RecycledBatchesLeaveNoTrace) {
    pack(dir.path(), make_records(10, Encoding::raw));
    const LoaderOptions options = options_for(dir.path());
    Loader fresh(options), recycled(options);
    for (std::int64_t step = 0; step < options.last_step; ++step) {
        const Batch wanted = fresh.next();
        Batch batch = recycled.next();
        EXPECT_TRUE(crops_of(batch) == crops_of(wanted));
        EXPECT_EQ(batch.valid_pixels, wanted.valid_pixels);
        recycled.recycle(std::move(batch));
    }
}

// What a device is given: the same stream and counts, the decoded samples, the words of their
// crops.
TEST_F(LoaderTest, DeliversDecodedSamples) {
    pack(dir.path(), make_records(10, Encoding::source), Encoding::source);
    for (const bool cache : {false, true}) {
        LoaderOptions options = options_for(dir.path());
        Loader cropping(options);
        options.decoded = true;
        options.cache_host = cache;
        options.workers = 3;
        Loader loader(options);
        for (std::int64_t step = 0; step < options.last_step; ++step) {
            Batch raw = loader.next();
            const Batch batch = cropping.next();
            EXPECT_TRUE(raw.images.empty() && raw.labels.empty());
            EXPECT_EQ(raw.valid_pixels, batch.valid_pixels);
            EXPECT_EQ(raw.ids, batch.ids);
            ASSERT_EQ(raw.decoded.size(), batch.ids.size());
            const std::size_t pixels = 17 * 23;
            for (std::size_t i = 0; i < raw.ids.size(); ++i) {
                const LabelledImage& decoded = *raw.decoded[i];
                EXPECT_EQ(decoded.id, batch.ids[i]);
                const Sample sample = augment(decoded.image, decoded.mask, options.augmentation, {},
                                              255, options.seed, raw.keys[i]);
                EXPECT_TRUE(
                    std::equal(sample.image.begin(), sample.image.end(),
                               batch.images.begin() + static_cast<std::ptrdiff_t>(3 * pixels * i)));
                const CropWords crop = crop_words(decoded.image, decoded.mask, options.augmentation,
                                                  {}, 255, options.seed, raw.keys[i]);
                EXPECT_EQ(raw.crops[i].words, crop.words);
                EXPECT_EQ(crop.valid_pixels, sample.valid_pixels);
            }
            loader.recycle(std::move(raw));
        }
    }
}

// A device that keeps what it was given gets no image twice, with and without room for the masks
// on the host; crops and counts are those of the whole samples.
TEST_F(LoaderTest, DeliversImagesToADeviceOnce) {
    const Records records = make_records(8, Encoding::source);
    pack(dir.path(), records, Encoding::source);
    std::int64_t masks = 0;
    for (const Record& r : records) masks += r.width * r.height;
    for (const std::int64_t room : {std::int64_t{1} << 30, std::int64_t{0}, masks / 2}) {
        LoaderOptions options = options_for(dir.path());
        options.global_batch = 4;
        options.last_step = 6;
        options.queue = 1;
        options.decoded = true;
        Loader whole(options);
        options.cache_device = true;
        options.cache_bytes = room;
        Loader loader(options);
        for (std::int64_t step = 0; step < options.last_step; ++step) {
            const Batch wanted = whole.next();
            Batch batch = loader.next();
            EXPECT_EQ(batch.ids, wanted.ids);
            EXPECT_EQ(batch.valid_pixels, wanted.valid_pixels);
            for (std::size_t i = 0; i < batch.ids.size(); ++i) {
                const LabelledImage &d = *batch.decoded[i], &w = *wanted.decoded[i];
                EXPECT_EQ(batch.crops[i].words, wanted.crops[i].words);
                EXPECT_EQ(d.mask.labels, w.mask.labels);
                EXPECT_EQ(d.image.width, w.image.width);
                // Step 2 was begun before the device had the first epoch's last batch.
                EXPECT_TRUE(step == 2 || d.image.pixels.empty() == (step > 2)) << step;
                EXPECT_TRUE(d.image.pixels.empty() || d.image.pixels == w.image.pixels);
            }
            loader.on_device(batch);
            loader.recycle(std::move(batch));
        }
        EXPECT_EQ(loader.cached_bytes() == masks, room > masks);
        EXPECT_LE(loader.cached_bytes(), room);
    }
}

TEST_F(LoaderTest, EncodedAndRawShardsGiveTheSameSamples) {
    testing::TempDir other;
    pack(dir.path(), make_records(6, Encoding::raw), Encoding::raw);
    pack(other.path(), make_records(6, Encoding::source), Encoding::source);
    EXPECT_TRUE(stream(options_for(dir.path()), 1) == stream(options_for(other.path()), 1));
}

TEST_F(LoaderTest, ResumesOnOtherRanks) {
    pack(dir.path(), make_records(10, Encoding::raw));
    LoaderOptions options = options_for(dir.path());
    const std::vector<Crop> whole = stream(options, 1);
    options.first_step = 2;
    EXPECT_TRUE(stream(options, 3) == std::vector<Crop>(whole.begin() + 24, whole.end()));
}

TEST_F(LoaderTest, CachedRecordsAreNotReadAgain) {
    // Larger than what HDF5 itself keeps of a data set (64 KiB).
    pack(dir.path(), make_records(4, Encoding::raw, 1000), Encoding::raw, 1);
    LoaderOptions options = options_for(dir.path());
    options.global_batch = 4;  // an epoch
    options.last_step = 3;
    options.queue = 1;
    options.cache_host = true;
    Loader loader(options);
    loader.next();
    const std::string shard = (dir.path() / shard_name("train", 0, 1)).string();
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    const std::vector<char> zeros(std::filesystem::file_size(shard), 0);
    file.write(zeros.data(), static_cast<std::streamsize>(zeros.size()));
    file.close();
    EXPECT_NO_THROW(loader.next());
    EXPECT_NO_THROW(loader.next());  // with a queue of one begun after the shard was wiped
}

TEST_F(LoaderTest, TheCacheIsBounded) {
    const Records records = make_records(4, Encoding::raw, 100);
    pack(dir.path(), records, Encoding::raw, 1);
    LoaderOptions options = options_for(dir.path());
    const std::vector<Crop> wanted = stream(options, 1);
    options.cache_host = true;
    std::int64_t all = 0;
    for (const Record& r : records) all += 4 * r.width * r.height;
    for (const auto& [limit, most, least] : {std::tuple{all, all, all},
                                             {all - 1, all - 1, all / 2},
                                             {all / 2 + 4000, all / 2 + 4000, all / 2 - 4000},
                                             {std::int64_t{0}, std::int64_t{0}, std::int64_t{0}}}) {
        options.cache_bytes = limit;
        Loader loader(options);
        std::vector<Crop> crops;
        for (std::int64_t step = 0; step < options.last_step; ++step) {
            for (Crop& crop : crops_of(loader.next())) crops.push_back(std::move(crop));
        }
        EXPECT_TRUE(crops == wanted) << "room for " << limit;
        EXPECT_LE(loader.cached_bytes(), most);
        EXPECT_GE(loader.cached_bytes(), least);
    }
}

// At most `queue` micro-batches are begun: what the reader takes from the shards stops there,
// however long nobody asks.
TEST_F(LoaderTest, PrefetchIsBounded) {
    pack(dir.path(), make_records(10, Encoding::raw));
    LoaderOptions options = options_for(dir.path());
    options.last_step = 1000;
    options.workers = 3;
    for (const int queue : {1, 3}) {
        options.queue = queue;
        Loader loader(options);
        const auto finished_after = [&](std::int64_t samples) {
            for (int i = 0; i < 1000 && loader.times().samples < samples; ++i)
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
            std::this_thread::sleep_for(std::chrono::milliseconds(100));  // would be time for more
            return loader.times().samples;
        };
        EXPECT_EQ(finished_after(12 * queue), 12 * queue);
        loader.next();
        EXPECT_EQ(finished_after(12 * (queue + 1)), 12 * (queue + 1));
    }
}

TEST_F(LoaderTest, StopsWhenNobodyAsks) {
    pack(dir.path(), make_records(10, Encoding::raw));
    LoaderOptions options = options_for(dir.path());
    options.last_step = 1000000;
    options.workers = 3;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 20; ++i) {
        Loader loader(options);
        if (i % 3 == 0) loader.next();
        if (i % 4 == 1) std::this_thread::sleep_for(std::chrono::milliseconds(10));  // queues full
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST_F(LoaderTest, MeasuresTheWait) {
    pack(dir.path(), make_records(10, Encoding::raw));
    LoaderOptions options = options_for(dir.path());
    Loader loader(options);
    EXPECT_EQ(loader.last_wait_s(), 0);
    loader.next();
    EXPECT_GT(loader.last_wait_s(), 0);
    EXPECT_EQ(loader.manifest().records, 10);
}

}  // namespace
}  // namespace deeplab::data
