// The network can learn real images by heart: loader, network, gradients and optimizer work
// together on VOC itself.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/cpu/cpu_backend.h"
#include "deeplab/data/loader.h"
#include "deeplab/evaluate/confusion.h"
#include "deeplab/math/bilinear.h"
#include "deeplab/model/deeplab.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

constexpr int images = 16, batch = 8, limit = 250, check_every = 20;
constexpr std::int64_t crop = 81;
constexpr double goal = 0.85;
constexpr std::uint64_t seed = 3;

// The first 16 images of train.txt, as one shard.
void pack(const std::filesystem::path& voc, const std::filesystem::path& dir) {
    const std::filesystem::path root = voc / "VOCdevkit" / "VOC2012";
    const std::vector<std::string> ids = split(
        read_text(root / "ImageSets" / "Segmentation" / "train.txt"), '\n');
    std::vector<data::Record> records;
    data::Manifest manifest;
    manifest.split = "train";
    manifest.classes = data::voc_classes();
    manifest.records = images;
    manifest.class_pixels.assign(manifest.classes.classes.size(), 0);
    manifest.class_images.assign(manifest.classes.classes.size(), 0);
    std::string list;
    for (std::size_t i = 0; i < images; ++i) {
        data::Record r;
        r.id = trim(ids.at(i));
        r.image = read_bytes(root / "JPEGImages" / (r.id + ".jpg"));
        r.mask = read_bytes(root / "SegmentationClass" / (r.id + ".png"));
        const io::Mask mask = io::decode_mask(r.mask, r.id);
        r.width = mask.width;
        r.height = mask.height;
        std::vector<bool> seen(manifest.class_pixels.size(), false);
        for (const std::uint8_t label : mask.labels) {
            if (label == manifest.classes.ignore) {
                ++manifest.ignore_pixels;
            } else {
                ++manifest.class_pixels[label];
                seen[label] = true;
            }
        }
        for (std::size_t c = 0; c < seen.size(); ++c) manifest.class_images[c] += seen[c];
        list += r.id + '\n';
        records.push_back(std::move(r));
    }
    manifest.list_hash = fnv1a(list.data(), list.size());
    manifest.shards.push_back(data::write_shard(dir / data::shard_name("train", 0, 1), records));
    data::save_manifest(dir, manifest);
}

// Arg max of the logits at the labels' size.
std::vector<std::uint8_t> predictions(const std::vector<float>& logits, const Shape& s,
                                      std::int64_t size) {
    std::vector<std::uint8_t> result;
    for (std::int64_t n = 0; n < s.n; ++n) {
        for (std::int64_t y = 0; y < size; ++y) {
            const math::Tap v = math::bilinear_tap(y, s.h, size, true);
            for (std::int64_t x = 0; x < size; ++x) {
                const math::Tap h = math::bilinear_tap(x, s.w, size, true);
                std::int64_t best = 0;
                float highest = -1e30f;
                for (std::int64_t c = 0; c < s.c; ++c) {
                    const float*
                        plane = &logits[static_cast<std::size_t>((n * s.c + c) * s.h * s.w)];
                    const auto at = [&](std::int64_t row, std::int64_t column) {
                        return plane[row * s.w + column];
                    };
                    const float top = at(v.i0, h.i0) * (1 - h.t) + at(v.i0, h.i1) * h.t;
                    const float bottom = at(v.i1, h.i0) * (1 - h.t) + at(v.i1, h.i1) * h.t;
                    const float value = top * (1 - v.t) + bottom * v.t;
                    if (value > highest) highest = value, best = c;
                }
                result.push_back(static_cast<std::uint8_t>(best));
            }
        }
    }
    return result;
}

data::LoaderOptions loader_options(const std::filesystem::path& dir) {
    data::LoaderOptions options;
    options.dir = dir;
    options.split = "train";
    options.augmentation = {.crop = crop,
                            .resize = data::Augmentation::Resize::none,
                            .flip = 0,
                            .blur = 0,
                            .random_crop = false,
                            .pad_label = data::Augmentation::PadLabel::ignore};
    options.seed = seed;
    options.global_batch = batch;
    options.last_step = limit;
    options.cache_host = true;
    return options;
}

TEST(Overfit, SlowSixteenRealImagesAreLearntByHeart) {
    const char* voc = std::getenv("DEEPLAB_TEST_DATA");
    if (voc == nullptr) GTEST_SKIP() << "skipped: no data";
    const testing::TempDir dir;
    pack(voc, dir.path());

    data::LoaderOptions options = loader_options(dir.path());
    data::Loader loader(options);

    const model::ModelConfig network{.backbone = "resnet18", .dropout = {0, 0, 0}};
    const graph::Plan plan = model::training_plan(
        network, {.batch = batch, .height = crop, .width = crop}, {});
    const graph::Plan inference = model::inference_plan(network, batch, crop, crop);
    const std::unique_ptr<comm::Communicator> self = comm::make_self();
    const std::unique_ptr<comm::Communicator> other = comm::make_self();
    const std::unique_ptr<exec::Backend> backend = cpu::make_cpu_backend(1);
    backend->allocate(plan);
    for (const graph::Parameter& p : plan.parameters) {
        backend->upload(p, exec::Slot::value, model::initial_value(p, plan, seed));
    }
    for (const graph::State& s : plan.states) {
        backend->upload(
            s, std::vector<float>(static_cast<std::size_t>(s.shape.elements()), s.initial));
    }
    const auto step = backend->compile(plan, {self.get(), other.get()}, {.seed = seed});
    const auto forward = backend->compile(inference, {self.get(), other.get()}, {});

    double miou = 0;
    for (int s = 0; s < limit && miou < goal; ++s) {
        const data::Batch b = loader.next();
        step->run({.images = b.images,
                   .labels = b.labels,
                   .samples = {},
                   .learning_rate = 0.03,
                   .valid_pixels = static_cast<double>(b.valid_pixels)});
        if ((s + 1) % check_every != 0 || s < 3 * check_every) continue;
        // Without augmentation an epoch holds the same 16 crops, whatever their order.
        options.first_step = 0;
        options.last_step = images / batch;
        data::Loader again(options);
        evaluate::Confusion confusion(network.num_classes);
        for (int i = 0; i < images / batch; ++i) {
            const data::Batch fixed = again.next();
            forward->run({.images = fixed.images, .labels = {}, .samples = {}});
            const Shape& shape = inference.tensor(inference.logits).shape;
            confusion.add(fixed.labels,
                          predictions(forward->download(inference.logits), shape, crop));
        }
        miou = confusion.metrics().miou;
        std::printf("step %d: mIoU %.3f\n", s + 1, miou);
    }
    EXPECT_GE(miou, goal);
}

}  // namespace
}  // namespace deeplab
