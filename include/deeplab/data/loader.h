#pragma once
// Shards -> augmented, normalised batches. One reader thread (HDF5), decode-and-augment workers,
// bounded queues, and an order that is a pure function of the seed: position p of one endless
// stream is sample p mod n of epoch p/n in that epoch's permutation; optimizer step s takes
// positions [sB, (s+1)B), micro-batch m its m-th contiguous part, and each rank a contiguous part
// of that.

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "deeplab/data/shard.h"
#include "deeplab/math/philox.h"

namespace deeplab::data {

// ImageNet's, RGB, of values in [0, 1].
struct Normalisation {
    std::array<float, 3> mean = {0.485f, 0.456f, 0.406f};
    std::array<float, 3> std = {0.229f, 0.224f, 0.225f};
};

// The size of a crop, height first as in torchvision's RandomCrop((h, w)); as there, a number alone
// is the side of a square. In pixels. Unlike torchvision's pad_if_needed, which pads both sides,
// an image that is smaller is padded at its right and bottom only.
struct CropSize {
    std::int64_t height = 513, width = 513;

    CropSize() = default;
    CropSize(std::int64_t side) : height(side), width(side) {}
    CropSize(std::int64_t h, std::int64_t w) : height(h), width(w) {}
    std::int64_t pixels() const { return height * width; }
    friend bool operator==(const CropSize&, const CropSize&) = default;
};

struct Augmentation {
    enum class Resize { none, short_edge, factor };
    enum class PadLabel { background, ignore };

    CropSize crop;
    Resize resize = Resize::short_edge;
    double range_low = 256,
           range_high = 1026;  // pixels (short_edge, both ends included) or factors
    double step = 0.25;        // of factors: low, low+step, … high; 0: continuous
    double flip = 0.5;         // probability
    double blur = 0.5;         // probability of a Gaussian blur of radius U(0,1)
    bool random_crop = true;   // false: the centre
    PadLabel pad_label = PadLabel::background;
    std::array<std::uint8_t, 3> pad_color = {0, 0, 0};  // before normalisation
};

// One augmented sample, a pure function of its arguments.
struct Sample {
    std::vector<float> image;          // (3, crop.height, crop.width), normalised
    std::vector<std::uint8_t> labels;  // (crop.height, crop.width)
    std::int64_t valid_pixels = 0;     // labels != ignore
};
Sample augment(const io::Image& image, const io::Mask& mask, const Augmentation& augmentation,
               const Normalisation& normalisation, int ignore, std::uint64_t seed,
               math::SampleKey key);

// What a device needs beside the decoded sample to make the same crop itself: the words of
// math/crop.h. Also a pure function.
struct CropWords {
    std::vector<std::int32_t> words;
    std::int64_t valid_pixels = 0;
};
CropWords crop_words(const io::Image& image, const io::Mask& mask, const Augmentation& augmentation,
                     const Normalisation& normalisation, int ignore, std::uint64_t seed,
                     math::SampleKey key);

// PIL's Image.resize(BILINEAR): antialiased when shrinking; and NEAREST for masks.
io::Image resize_bilinear(const io::Image& image, std::int64_t width, std::int64_t height);
io::Mask resize_nearest(const io::Mask& mask, std::int64_t width, std::int64_t height);
// PIL's ImageFilter.GaussianBlur(radius).
io::Image gaussian_blur(const io::Image& image, float radius);
// (3,H,W) floats: (v/255 - mean) / std.
void normalise(const io::Image& image, const Normalisation& normalisation, float* planes);

// The permutation of one epoch: a pure function of (seed, epoch), O(samples) to make; Loader keeps
// the current one.
std::vector<std::uint32_t> epoch_order(std::uint64_t epoch, std::uint64_t samples,
                                       std::uint64_t seed);
// Which sample stands at a position of the stream.
math::SampleKey sample_at(std::uint64_t position, std::uint64_t samples, std::uint64_t seed);

struct Batch {
    std::int64_t step = 0;  // optimizer step it belongs to, from 0
    std::int64_t micro = 0;
    std::vector<float> images;         // (N, 3, crop.height, crop.width)
    std::vector<std::uint8_t> labels;  // (N, 1, crop.height, crop.width)
    // N each, instead of images and labels, where LoaderOptions::decoded asks for them. The cache
    // and other batches may hold the same samples. image.pixels is empty where a device has it.
    std::vector<std::shared_ptr<LabelledImage>> decoded;
    std::vector<CropWords> crops;
    std::vector<math::SampleKey> keys;  // N; key.sample is the record's index in the split
    std::vector<std::string> ids;       // N
    std::int64_t valid_pixels = 0;
};

// Where the loader's threads spend their time.
enum class Stage {
    read,
    decode_image,
    decode_mask,
    check,
    resize_image,
    resize_mask,
    blur,
    normalise,
    rest
};
constexpr std::size_t stage_count = 9;
const char* name(Stage stage);

// CPU time of the threads that did it: neither waiting nor other work on the machine counts.
struct StageTimes {
    std::array<double, stage_count> cpu_s{};
    std::int64_t samples = 0;  // finished

    double total_s() const;
    StageTimes& operator+=(const StageTimes& other);
};

struct LoaderOptions {
    std::filesystem::path dir;
    std::string split = "train_aug";
    Augmentation augmentation;
    Normalisation normalisation;
    std::uint64_t seed = 0;
    std::int64_t global_batch = 16, accumulation = 1;
    int rank = 0, size = 1;
    std::int64_t first_step = 0, last_step = 0;  // steps [first, last)
    int workers = 1;
    // Keep the decoded samples that this process has met, 4 bytes a pixel, until cache_bytes are
    // full. As every epoch is shuffled anew, that is in time any part of the split on every rank
    // (10,582 VOC images: about 7.5 GiB). What is kept stays: an epoch asks for each sample once,
    // so that no other choice would be met more often. Ranks of a host share no memory; what they
    // share is the system's page cache, where raw shards (encoding raw) need no decoding either.
    bool cache_host = false;
    // Deliver decoded samples and the words of their crops, for a device to make them. What a crop
    // counts as valid is still counted here: a step's ranks sum that before the device runs.
    bool decoded = false;
    // With decoded: a device keeps the samples that on_device() told of. Their images are not
    // decoded again; masks, of which crops are counted, are kept here as with cache_host (a quarter
    // of its bytes), and those without room are read and decoded anew.
    bool cache_device = false;
    std::int64_t cache_bytes = std::int64_t{8} << 30;
    int queue = 4;  // micro-batches in memory at most, begun or ready
};

// Bounded in memory; errors of its threads are thrown by next() as they were, naming the record.
class Loader {
public:
    explicit Loader(const LoaderOptions& options);
    ~Loader();  // stops and joins
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;

    Batch next();        // the next micro-batch, in order; LogicError past the end
    bool ready() const;  // whether next() would neither wait nor throw
    // Optional: gives a batch back, so that the next one needs no fresh memory (page faults cost as
    // much as decoding).
    void recycle(Batch&& batch);
    // With cache_device: from now on the device has this batch's samples.
    void on_device(const Batch& batch);
    double last_wait_s() const;  // how long the last next() waited
    StageTimes times() const;    // of all samples finished so far, whether next() took them or not
    std::int64_t cached_bytes() const;
    const Manifest& manifest() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace deeplab::data
