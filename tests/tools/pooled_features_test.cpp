// Real weights on real images: the pooled features of MobileNetV2 are PyTorch's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/cpu/cpu_backend.h"
#include "deeplab/data/loader.h"
#include "deeplab/graph/builder.h"
#include "deeplab/io/image.h"
#include "deeplab/model/backbone.h"
#include "deeplab/weights/weights.h"
#include "harness/process.h"
#include "harness/source_dir.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t side = 257, images = 10;

// The middle of the first images of val that are large enough, as the network takes them.
std::vector<float> pixels_of(const fs::path& voc, const data::Normalisation& normalisation) {
    std::vector<float> planes;
    std::ifstream list(voc / "ImageSets/Segmentation/val.txt");
    const auto plane = static_cast<std::size_t>(3 * side * side);
    for (std::string id; planes.size() < images * plane && list >> id;) {
        const fs::path file = voc / "JPEGImages" / (id + ".jpg");
        const std::string bytes = read_text(file);
        const io::Image image = io::decode_image(
            {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, file.string());
        if (image.width < side || image.height < side) continue;
        io::Image middle{.width = side, .height = side, .pixels = {}};
        for (std::int64_t y = 0; y < side; ++y) {
            const auto row = image.pixels.begin() +
                             3 * ((image.height - side) / 2 + y) * image.width +
                             3 * ((image.width - side) / 2);
            middle.pixels.insert(middle.pixels.end(), row, row + 3 * side);
        }
        planes.resize(planes.size() + plane);
        data::normalise(middle, normalisation, planes.data() + planes.size() - plane);
    }
    return planes;
}

void write(const fs::path& file, const std::vector<float>& values) {
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(float)));
}

TEST(PooledFeatures, SlowOfTenRealImagesArePyTorchs) {
    const char* data = std::getenv("DEEPLAB_TEST_DATA");
    const fs::path root = data == nullptr ? "" : data,
                   file = root / "weights/mobilenet_v2_imagenet_dogs.safetensors";
    if (data == nullptr || !fs::exists(file)) GTEST_SKIP() << "skipped: no data";
    if (testing::run_process({"/usr/bin/python3", "-c", "import torch"}).exit_code != 0)
        GTEST_SKIP() << "skipped: no PyTorch";

    const weights::WeightsFile weights(file);
    const auto seen = weights::normalisation_of(weights);
    ASSERT_TRUE(seen);
    const std::vector<float> pixels = pixels_of(root / "VOCdevkit/VOC2012", *seen);
    ASSERT_EQ(pixels.size(), static_cast<std::size_t>(images * 3 * side * side));

    // The backbone as classifiers have it, which a whole network does not build: output stride 32.
    const model::ModelConfig network{.backbone = "mobilenet_v2", .output_stride = 32};
    const model::BackboneFamily& family = model::family_of(network.backbone);
    graph::Builder builder(graph::Mode::inference);
    const graph::TensorId input = builder.images({images, 3, side, side});
    const model::Features features = family.build(builder, input, network);
    builder.keep(features.high);
    const graph::Plan plan = builder.inference_plan();
    const auto backend = cpu::make_cpu_backend(2);
    const auto gradients = comm::make_self(), batch_norm = comm::make_self();
    backend->allocate(plan);
    weights::apply_snapshot(*backend, plan, weights::import_weights(weights, plan, {}).snapshot,
                            false);
    const auto executable = backend->compile(plan, {gradients.get(), batch_norm.get()}, {});
    exec::MicroBatch batch;
    batch.images = pixels;
    executable->run(batch);

    const std::vector<float> maps = executable->download(features.high);
    const Shape& shape = plan.tensor(features.high).shape;
    const auto map = static_cast<std::size_t>(shape.h * shape.w);
    std::vector<float> pooled;
    for (std::size_t i = 0; i < maps.size(); i += map) {
        double sum = 0;
        for (std::size_t k = 0; k < map; ++k) sum += static_cast<double>(maps[i + k]);
        pooled.push_back(static_cast<float>(sum / static_cast<double>(map)));
    }
    const testing::TempDir dir;
    write(dir / "inputs", pixels);
    write(dir / "features", pooled);
    const auto result = testing::run_process(
        {"/usr/bin/python3", "-B",
         (testing::source_dir() / "tests/golden/pooled_features.py").string(), file.string(),
         (dir / "inputs").string(), (dir / "features").string(), cat(images), cat(side)});
    EXPECT_EQ(result.exit_code, 0) << result.both();
    std::printf("%s", result.out.c_str());
}

}  // namespace
}  // namespace deeplab
