#pragma once
// A data set of one's own: a folder of images, one of masks, a list, a file of classes; and what
// the packer makes of it.

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "harness/temp_dir.h"
#include "pack.h"
#include "voc_folder.h"

namespace deeplab::testing {

class OwnFolder : public ::testing::Test {
protected:
    static constexpr std::int64_t width = 24, height = 6;

    OwnFolder() {
        options.images = dir / "images";
        options.masks = dir / "masks";
        options.list = dir / "train.txt";
        options.classes = dir / "classes.toml";
        options.out = dir / "shards";
        std::filesystem::create_directories(options.images);
        std::filesystem::create_directories(options.masks);
        classes(
            "ignore = 255\n[[class]]\nname = \"ground\"\ncolor = [0, 0, 0]\n"
            "[[class]]\nname = \"one\"\ncolor = [128, 0, 0]\n"
            "[[class]]\nname = \"two\"\ncolor = [0, 128, 0]\n");
    }

    void classes(const std::string& toml) { write_atomically(options.classes, toml); }
    void list(const std::string& text) { write_atomically(options.list, text); }

    // A PNG image at `name`, a path below the folder of images.
    void image(const std::string& name, int seed = 1) {
        place(options.images / name, io::encode_png(test_image(width, height, seed)));
    }
    // Upright stripes of these labels.
    static io::Mask stripes(const std::vector<int>& labels) {
        io::Mask mask{width, height, {}};
        for (std::int64_t i = 0; i < width * height; ++i)
            mask.labels.push_back(static_cast<std::uint8_t>(
                labels[static_cast<std::size_t>(i % width) * labels.size() / width]));
        return mask;
    }
    void gray_mask(const std::string& name, const std::vector<int>& labels) {
        place(options.masks / name, encode_gray_png(stripes(labels)));
    }
    // The same in 16 bits.
    void wide_mask(const std::string& name, const std::vector<int>& labels) {
        io::WideMask mask{width, height, {}};
        for (std::int64_t i = 0; i < width * height; ++i)
            mask.labels.push_back(static_cast<std::uint16_t>(
                labels[static_cast<std::size_t>(i % width) * labels.size() / width]));
        place(options.masks / name, io::encode_gray_png(mask, 16));
    }
    void palette_mask(const std::string& name, const std::vector<int>& labels,
                      const std::vector<io::Rgb>& palette) {
        place(options.masks / name, io::encode_palette_png(stripes(labels), palette));
    }
    void painted_mask(const std::string& name, const std::vector<io::Rgb>& colors) {
        io::Image painted{width, height, {}};
        for (std::int64_t i = 0; i < width * height; ++i) {
            const io::Rgb c = colors[static_cast<std::size_t>(i % width) * colors.size() / width];
            painted.pixels.insert(painted.pixels.end(), {c.r, c.g, c.b});
        }
        place(options.masks / name, io::encode_png(painted));
    }
    void pair(const std::string& id, const std::vector<int>& labels = {0, 1, 2}) {
        image(id + ".png");
        gray_mask(id + ".png", labels);
    }

    // What pack prints; its exit code is `code`.
    std::string packed(int code = 0) {
        std::filesystem::remove_all(options.out);
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
    std::string split() const { return options.list.stem().string(); }
    std::vector<std::string> ids() const { return data::ShardSet(options.out, split()).ids(); }
    data::Manifest manifest() const { return data::load_manifest(options.out, split()); }
    io::Mask labels(std::int64_t record) const {
        return io::decode_mask(data::ShardSet(options.out, split()).read(record).mask, "mask");
    }

    static void place(const std::filesystem::path& path, const std::vector<std::uint8_t>& bytes) {
        std::filesystem::create_directories(path.parent_path());
        put(path, bytes);
    }

    TempDir dir;
    preprocess::PackOptions options;
    std::unique_ptr<comm::Communicator> comm = comm::make_self();
};

}  // namespace deeplab::testing
