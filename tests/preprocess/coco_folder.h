#pragma once
// A small data set in COCO's layout: a folder of images, a file of instances, a map; and what the
// packer makes of it.

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/io/value.h"
#include "harness/temp_dir.h"
#include "pack.h"
#include "voc_folder.h"

namespace deeplab::testing {

inline constexpr const char* kFruitMap =
    "ignore = 255\n"
    "[[class]]\nname = \"ground\"\ncolor = [0, 0, 0]\n"
    "[[class]]\nname = \"one\"\ncolor = [128, 0, 0]\nlabels = [\"apple\"]\n"
    "[[class]]\nname = \"two\"\ncolor = [0, 128, 0]\nlabels = [7]\n";

class CocoFolder : public ::testing::Test {
protected:
    static constexpr std::int64_t width = 24, height = 20;

    CocoFolder() {
        options.coco.file = dir / "instances_fruit.json";
        options.coco.map = dir / "map.toml";
        options.coco.min_pixels = 0;
        options.images = dir / "images";
        options.out = dir / "shards";
        std::filesystem::create_directories(options.images);
        map(kFruitMap);
    }

    void map(const std::string& toml) { write_atomically(options.coco.map, toml); }

    // An entry of "images"; its file is made only by picture().
    void entry(std::int64_t id, const std::string& file_name, std::int64_t w = width,
               std::int64_t h = height) {
        images.push_back(cat("{\"license\": 3, \"id\": ", id, ", \"file_name\": \"", file_name,
                             "\", \"width\": ", w, ", \"height\": ", h, ", \"extra\": [{}, [1]]}"));
    }
    void picture(std::int64_t id) {
        const std::string name = cat("p", id, ".jpg");
        entry(id, name);
        put(options.images / name, io::encode_jpeg(test_image(width, height, 1), 90));
    }
    void annotate(std::int64_t id, std::int64_t image, std::int64_t category,
                  const std::string& segmentation, const std::string& more = "") {
        annotations.push_back(cat("{\"id\": ", id, ", \"image_id\": ", image,
                                  ", \"category_id\": ", category, ", \"bbox\": [0, 0, 1, 1]", more,
                                  ", \"segmentation\": ", segmentation, "}"));
    }
    // A polygon that covers the pixels [x0, x1) x [y0, y1).
    static std::string box(int x0, int y0, int x1, int y1) {
        return cat("[[", x0, ", ", y0, ", ", x1, ", ", y0, ", ", x1, ", ", y1, ", ", x0, ", ", y1,
                   "]]");
    }

    std::string json() const {
        const auto list = [](const std::vector<std::string>& entries) {
            std::string text;
            for (const std::string& e : entries) text += (text.empty() ? "" : ",\n") + e;
            return "[" + text + "]";
        };
        return cat("{\"info\": {\"year\": [2017]},\n\"images\": ", list(images),
                   ",\n\"annotations\": ", list(annotations),
                   ",\n\"categories\": ", list(categories), "}\n");
    }
    void write() { write_atomically(options.coco.file, json()); }

    // What pack prints of what was written; its exit code is `code`.
    std::string packed(int code = 0) {
        write();
        return packed_as_it_is(code);
    }
    std::string packed_as_it_is(int code = 0) {
        std::filesystem::remove_all(options.out);
        return packed_beside(code);
    }
    std::string packed_beside(int code = 0) {
        ::testing::internal::CaptureStderr();
        int got = 0;
        std::string thrown;
        try {
            got = preprocess::pack(options, *comm);
        } catch (const Error& error) {
            got = static_cast<int>(error.code());
            thrown = error.what();
        }
        const std::string text = ::testing::internal::GetCapturedStderr() + thrown;
        EXPECT_EQ(got, code) << text;
        return text;
    }
    bool nothing_written() const {
        return !std::filesystem::exists(options.out) ||
               std::filesystem::directory_iterator(options.out) ==
                   std::filesystem::directory_iterator();
    }
    std::vector<std::string> ids() const { return data::ShardSet(options.out, split).ids(); }
    data::Manifest manifest() const { return data::load_manifest(options.out, split); }
    io::Mask labels(std::int64_t record = 0) const {
        return io::decode_mask(data::ShardSet(options.out, split).read(record, true).mask, "mask");
    }
    static int at(const io::Mask& mask, std::int64_t x, std::int64_t y) {
        return mask.labels[static_cast<std::size_t>(y * mask.width + x)];
    }
    // A number of the manifest's member "coco", by its path: "pixels.shared".
    std::int64_t told(const std::string& path) const {
        const io::Value root = io::parse_json(read_text(options.out / (split + ".json")),
                                              "manifest");
        const io::Value* value = root.get_if<io::Object>()->find("coco");
        for (const std::string& name : deeplab::split(path, '.'))
            value = value == nullptr ? nullptr : value->get_if<io::Object>()->find(name);
        return value == nullptr || !value->is<std::int64_t>() ? -1 : *value->get_if<std::int64_t>();
    }

    TempDir dir;
    preprocess::PackOptions options;
    std::string split = "fruit";
    std::unique_ptr<comm::Communicator> comm = comm::make_self();
    std::vector<std::string> images, annotations,
        categories = {"{\"id\": 1, \"name\": \"apple\", \"supercategory\": \"fruit\"}",
                      "{\"id\": 7, \"name\": \"pear\"}", "{\"id\": 9, \"name\": \"plum\"}"};
};

}  // namespace deeplab::testing
