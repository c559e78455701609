#include "augment.h"

#include "deeplab/math/crop.h"
#include "deeplab/math/resample.h"
#include "launch.cuh"
#include "reduce.cuh"

namespace deeplab::cuda {
namespace {

constexpr int threads = 256;

__device__ __forceinline__ const math::CropHeader& header(const CropSource& source) {
    return *reinterpret_cast<const math::CropHeader*>(source.crop);
}

// One pixel of the crop a thread. A column's horizontal pass is done anew for every row that reads
// it: some multiplications more, and no intermediate image, whose size the decoded sample would
// decide.
__global__ void __launch_bounds__(threads)
    crop_kernel(const CropSource* sources, std::uint8_t* pixels, std::uint8_t* labels, int height,
                int width) {
    const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x),
              y = static_cast<int>(blockIdx.y), n = static_cast<int>(blockIdx.z);
    if (x >= width) return;
    const CropSource source = sources[n];
    const math::CropHeader& h = header(source);
    const std::int64_t at = (static_cast<std::int64_t>(n) * height + y) * width + x;
    std::uint8_t* out = pixels + 3 * at;
    if (x >= h.columns || y >= h.rows) {
        for (int c = 0; c < 3; ++c) out[c] = static_cast<std::uint8_t>(h.pad_color[c]);
        labels[at] = static_cast<std::uint8_t>(h.pad_label);
        return;
    }
    const math::CropTables tables = math::crop_tables(h);
    const std::int32_t* words = source.crop;
    const std::int64_t pitch = h.width;
    labels[at] = source
                     .labels[words[tables.label_down + y] * pitch + words[tables.label_across + x]];

    constexpr std::int32_t half_unit = 1 << (math::resample_bits - 1);
    const std::int32_t* down = words + tables.weights_down + y * h.taps_down;
    const std::int32_t* across = words + tables.weights_across + x * h.taps_across;
    const int left = words[tables.first_across + x], step = h.flip != 0 ? -3 : 3;
    const std::int64_t begin = 3 * (h.flip != 0 ? pitch - 1 - left : left);
    std::int32_t red = half_unit, green = half_unit, blue = half_unit;
    for (int j = 0; j < h.taps_down; ++j) {
        const std::int32_t weight = down[j];
        if (weight == 0) continue;
        const std::uint8_t* from = source.pixels + 3 * pitch * (words[tables.first_down + y] + j) +
                                   begin;
        std::int32_t r = half_unit, g = half_unit, b = half_unit;
        for (int i = 0; i < h.taps_across; ++i) {
            const std::int32_t w = across[i];
            if (w == 0) continue;
            r += w * from[i * step];
            g += w * from[i * step + 1];
            b += w * from[i * step + 2];
        }
        red += weight * math::resample_round(r);
        green += weight * math::resample_round(g);
        blue += weight * math::resample_round(b);
    }
    out[0] = math::resample_round(red);
    out[1] = math::resample_round(green);
    out[2] = math::resample_round(blue);
}

// The blur's passes over `lines` of `length` values each in shared memory, a value's neighbours
// along a line `stride` apart, at most `last` steps from its first. Returns where the result is.
__device__ __forceinline__ std::uint8_t* blur(const math::CropHeader& h, std::uint8_t* from,
                                              std::uint8_t* to, int values, int stride, int last) {
    const math::ExtendedBox box{h.blur_radius, h.blur_inner, h.blur_outer};
    for (int pass = 0; pass < math::blur_passes; ++pass) {
        for (int v = static_cast<int>(threadIdx.x); v < values; v += threads) {
            const int place = v / stride, line = v % stride;
            const auto value = [&](int p) -> std::uint32_t {
                return from[min(max(p, 0), last) * stride + line];
            };
            std::uint32_t near_sum = 0;
            for (int p = place - box.radius; p <= place + box.radius; ++p) near_sum += value(p);
            to[v] = math::extended_box(
                box, near_sum, value(place - box.radius - 1) + value(place + box.radius + 1));
        }
        __syncthreads();
        std::uint8_t* const swapped = from;
        from = to;
        to = swapped;
    }
    return from;
}

// A row of a sample that is to be blurred: a block.
__global__ void __launch_bounds__(threads)
    blur_rows_kernel(const CropSource* sources, std::uint8_t* pixels, int height, int width) {
    const int n = static_cast<int>(blockIdx.y), values = 3 * width;
    const math::CropHeader& h = header(sources[n]);
    if (h.blur_radius < 0) return;
    std::uint8_t* row = pixels +
                        (static_cast<std::int64_t>(n) * height + static_cast<int>(blockIdx.x)) *
                            values;
    auto* const shared = dynamic_shared<std::uint8_t>();
    for (int v = static_cast<int>(threadIdx.x); v < values; v += threads) shared[v] = row[v];
    __syncthreads();
    const std::uint8_t* blurred = blur(h, shared, shared + values, values, 3, width - 1);
    for (int v = static_cast<int>(threadIdx.x); v < values; v += threads) row[v] = blurred[v];
}

// `strip` values of every row: blurred along the columns where the sample is to be, normalised.
template <class T>
__global__ void __launch_bounds__(threads)
    finish_kernel(const CropSource* sources, const std::uint8_t* pixels, Rows<T> images, int height,
                  int width, int strip) {
    const int n = static_cast<int>(blockIdx.y), first = static_cast<int>(blockIdx.x) * strip,
              values = height * strip, row = 3 * width;
    const math::CropHeader& h = header(sources[n]);
    const std::uint8_t* sample = pixels + static_cast<std::int64_t>(n) * height * row;
    auto* const shared = dynamic_shared<std::uint8_t>();
    for (int v = static_cast<int>(threadIdx.x); v < values; v += threads) {
        const int column = first + v % strip;
        shared[v] = column < row ? sample[static_cast<std::int64_t>(v / strip) * row + column] : 0;
    }
    __syncthreads();
    const std::uint8_t* result = shared;
    if (h.blur_radius >= 0) result = blur(h, shared, shared + values, values, strip, height - 1);
    for (int v = static_cast<int>(threadIdx.x); v < values; v += threads) {
        const int column = first + v % strip, channel = column % 3;
        if (column >= row) continue;
        const float value[1] = {math::normalised(result[v], h.mean[channel], h.std[channel])};
        store(images.at((n * height + v / strip) * width + column / 3, channel), value);
    }
}

}  // namespace

std::int64_t augment_scratch_bytes(const Shape& images) { return images.elements(); }

void augment(cudaStream_t stream, const CropSource* sources, const View& images,
             std::uint8_t* labels, void* scratch) {
    const Shape& s = images.shape;
    expects(s.c == 3 && s.h <= largest_crop && s.w <= largest_crop && s.n <= 65535 &&
                images.pixels() < (std::int64_t{1} << 30),
            "crops are RGB images whose rows and columns fit into shared memory");
    auto* const pixels = static_cast<std::uint8_t*>(scratch);
    launch("crops", stream, crop_kernel,
           dim3(as_unsigned(ceil_div(s.w, threads)), as_unsigned(s.h), as_unsigned(s.n)),
           dim3(threads), 0, sources, pixels, labels, s.h, s.w);
    launch("blur of rows", stream, blur_rows_kernel, dim3(as_unsigned(s.h), as_unsigned(s.n)),
           dim3(threads), static_cast<std::size_t>(6 * s.w), sources, pixels, s.h, s.w);
    std::int64_t strip = 32;  // a sector of memory, where shared memory holds two such strips
    while (2 * strip * s.h > 48000) strip /= 2;
    with_type(images.type, [&](auto zero) {
        using T = decltype(zero);
        launch("blur of columns", stream, finish_kernel<T>,
               dim3(as_unsigned(ceil_div(3 * s.w, strip)), as_unsigned(s.n)), dim3(threads),
               static_cast<std::size_t>(2 * strip * s.h), sources, pixels, rows<T>(images), s.h,
               s.w, strip);
    });
}

}  // namespace deeplab::cuda
