// Files of old formats (tests/golden/formats): every later version must read them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "deeplab/base/text.h"
#include "deeplab/data/shard.h"
#include "deeplab/io/hdf5.h"
#include "deeplab/weights/checkpoint.h"
#include "harness/source_dir.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

const std::filesystem::path folder = testing::source_dir() / "tests/golden/formats";

std::string hash_of(const std::vector<std::uint8_t>& bytes) {
    return hex64(fnv1a(bytes.data(), bytes.size()));
}

// FNV-1a of the stored bytes, and of the decoded labels, as h5py and Pillow find them.
struct Expected {
    std::string id, image, mask, labels;
};

void expect_split(const std::string& split, data::Encoding encoding, std::int64_t shard_count,
                  const std::vector<Expected>& expected) {
    data::ShardSet shards(folder, split);
    const data::Manifest& manifest = shards.manifest();
    EXPECT_EQ(manifest.encoding, encoding);
    ASSERT_EQ(manifest.classes.classes.size(), 3u);
    EXPECT_EQ(manifest.classes.classes[2].name, "checker");
    EXPECT_EQ(manifest.classes.ignore, 255);
    ASSERT_EQ(static_cast<std::int64_t>(manifest.shards.size()), shard_count);
    ASSERT_EQ(shards.size(), static_cast<std::int64_t>(expected.size()));
    std::vector<std::int64_t> all;
    for (std::int64_t s = 0; s < shard_count; ++s) all.push_back(s);
    EXPECT_NO_THROW(shards.verify_files(all));
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const data::Record record = shards.read(static_cast<std::int64_t>(i), true);
        const Expected& e = expected[i];
        EXPECT_EQ(record.id, e.id);
        EXPECT_EQ(record.width, 33);
        EXPECT_EQ(record.height, 40);
        EXPECT_EQ(hash_of(record.image), e.image) << record.id;
        EXPECT_EQ(hash_of(record.mask), e.mask) << record.id;
        const data::LabelledImage decoded = data::decode(record, encoding, record.id);
        EXPECT_EQ(decoded.image.pixels.size(), 33u * 40 * 3);
        EXPECT_EQ(hash_of(decoded.mask.labels), e.labels) << record.id;
    }
}

TEST(Formats, Version1ShardsOfSourceBytes) {
    expect_split("train", data::Encoding::source, 2,
                 {{"train_00000", "2915bb3b50f36440", "ae7a57e29847536e", "3b8b6b67a59ac9df"},
                  {"train_00001", "5c3acdb248c69df1", "3122d791636a09ea", "f89112363ed25893"},
                  {"train_00002", "5d9896a316a6bb25", "5a1169905eac790a", "cb1d509786a295cd"}});
}

TEST(Formats, Version1ShardsOfRawPixels) {
    expect_split("val", data::Encoding::raw, 1,
                 {{"val_00000", "a9e5b23c4983013d", "5586ca63ee0346ff", "5586ca63ee0346ff"},
                  {"val_00001", "a689990ab34ce14b", "535e677e4f1eb087", "535e677e4f1eb087"}});
}

// What the version-1 checkpoint was written from.
weights::Snapshot version_1() {
    weights::Snapshot s;
    s.info.model = {.backbone = "resnet50",
                    .output_stride = 8,
                    .num_classes = 3,
                    .dropout = {0.5f, 0.25f, 0.125f},
                    .bn_eps = 1e-3f,
                    .bn_momentum = 0.0625f,
                    .width_divisor = 2};
    s.info.classes.classes = {
        {"background", {0, 0, 0}}, {"disc", {128, 0, 0}}, {"triangle \"\xc3\xa4\"", {1, 2, 255}}};
    s.info.classes.ignore = 254;
    s.info.model.mean = {0.1f, 0.2f, 0.3f};
    s.info.model.std = {0.4f, 0.5f, 0.6f};
    s.info.step = 5'000'000'000;
    s.info.best_miou = 0.7919;
    s.info.config_toml = "[train]\nseed = 3\n";
    s.info.train_list_hash = "0123456789abcdef";
    float next = -3;
    const auto add = [&](auto& group, const std::string& name,
                         const std::vector<std::int64_t>& extents) {
        std::size_t elements = 1;
        for (const std::int64_t e : extents) elements *= static_cast<std::size_t>(e);
        s.extents[name] = extents;
        for (std::size_t i = 0; i < elements; ++i) group[name].push_back(next += 0.125f);
    };
    add(s.parameters, "backbone.conv1.weight", {4, 3, 7, 7});
    add(s.parameters, "backbone.bn1.weight", {4});
    add(s.parameters, "decoder.classifier.bias", {3});
    for (const auto& entry : std::map(s.parameters))
        add(s.momentum, entry.first, std::vector(s.extents.at(entry.first)));
    add(s.states, "backbone.bn1.running_mean", {4});
    add(s.states, "backbone.bn1.running_var", {4});
    return s;
}

TEST(Formats, Version1Checkpoint) {
    const weights::Snapshot wanted = version_1();
    if (const char* file = std::getenv("DEEPLAB_WRITE_CHECKPOINT"))  // make_formats.sh
        weights::save_checkpoint(file, wanted);
    const weights::Snapshot found = weights::load_checkpoint(folder / "checkpoint-v1.h5");
    EXPECT_EQ(found.parameters, wanted.parameters);
    EXPECT_EQ(found.momentum, wanted.momentum);
    EXPECT_EQ(found.states, wanted.states);
    EXPECT_EQ(found.extents, wanted.extents);
    const weights::WeightsInfo &f = found.info, &w = wanted.info;
    EXPECT_EQ(f.model.backbone, w.model.backbone);
    EXPECT_EQ(f.model.output_stride, w.model.output_stride);
    EXPECT_EQ(f.model.num_classes, w.model.num_classes);
    EXPECT_EQ(f.model.dropout, w.model.dropout);
    EXPECT_EQ(f.model.bn_eps, w.model.bn_eps);
    EXPECT_EQ(f.model.bn_momentum, w.model.bn_momentum);
    EXPECT_EQ(f.model.width_divisor, w.model.width_divisor);
    ASSERT_EQ(f.classes.classes.size(), w.classes.classes.size());
    for (std::size_t i = 0; i < w.classes.classes.size(); ++i) {
        EXPECT_EQ(f.classes.classes[i].name, w.classes.classes[i].name);
        EXPECT_EQ(f.classes.classes[i].color, w.classes.classes[i].color);
    }
    EXPECT_EQ(f.classes.ignore, w.classes.ignore);
    EXPECT_EQ(f.model.mean, w.model.mean);
    EXPECT_EQ(f.model.std, w.model.std);
    EXPECT_EQ(f.step, w.step);
    EXPECT_EQ(f.best_miou, w.best_miou);
    EXPECT_EQ(f.config_toml, w.config_toml);
    EXPECT_EQ(f.train_list_hash, w.train_list_hash);
}

// The same content has the checksum that it had: an old program takes what this one writes.
TEST(Formats, Version1ChecksumsStay) {
    const testing::TempDir dir;
    weights::save_checkpoint(dir / "again.h5", version_1());
    const auto checksum = [](const std::filesystem::path& file) {
        return io::Hdf5Reader(file).attribute_text("content_hash");
    };
    EXPECT_EQ(checksum(dir / "again.h5"), checksum(folder / "checkpoint-v1.h5"));
}

}  // namespace
}  // namespace deeplab
