#include "layout.h"

#include "launch.cuh"
#include "reduce.cuh"

namespace deeplab::cuda {
namespace {

constexpr int tile_pixels = 64, tile_depth = 32;

// A tile goes through shared memory: one side reads and writes along pixels, the other along
// channels.
template <class T, bool ToNchw>
__global__ void __launch_bounds__(256)
    transpose_kernel(const float* from, float* to, Rows<T> rows, int pixels, int channels) {
    __shared__ float tile[tile_depth][tile_pixels + 1];
    const int first = static_cast<int>(blockIdx.x) * tile_pixels,
              first_channel = static_cast<int>(blockIdx.y) * tile_depth,
              n = static_cast<int>(blockIdx.z), count = min(tile_pixels, pixels - first),
              depth = min(tile_depth, channels - first_channel), t = static_cast<int>(threadIdx.x),
              threads = static_cast<int>(blockDim.x);
    const auto plane = [&](int c) {
        return (static_cast<std::int64_t>(n) * channels + first_channel + c) * pixels + first;
    };
    if (ToNchw) {
        for (int i = t; i < count * depth; i += threads) {
            float value[1];
            load(rows.at(n * pixels + first + i / depth, first_channel + i % depth), value);
            tile[i % depth][i / depth] = value[0];
        }
    } else {
        for (int i = t; i < count * depth; i += threads)
            tile[i / count][i % count] = from[plane(i / count) + i % count];
    }
    __syncthreads();
    if (ToNchw) {
        for (int i = t; i < count * depth; i += threads)
            to[plane(i / count) + i % count] = tile[i / count][i % count];
    } else {
        for (int i = t; i < count * depth; i += threads) {
            const float value[1] = {tile[i % depth][i / depth]};
            store(rows.at(n * pixels + first + i / depth, first_channel + i % depth), value);
        }
    }
}

template <class T, bool ToNchw>
void transpose(cudaStream_t stream, const float* from, float* to, const View& v) {
    const Shape& s = v.shape;
    expects(v.pixels() < (std::int64_t{1} << 30) && s.n <= 65535,
            "kernels count pixels with 30 bits");
    const dim3 grid(as_unsigned(ceil_div(s.h * s.w, tile_pixels)),
                    as_unsigned(ceil_div(s.c, tile_depth)), as_unsigned(s.n));
    launch("change of layout", stream, transpose_kernel<T, ToNchw>, grid, dim3(256), 0, from, to,
           rows<T>(v), s.h * s.w, s.c);
}

template <class From, class To>
__global__ void __launch_bounds__(256)
    convert_kernel(const From* from, To* to, std::int64_t count, bool add) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float value[1], old[1] = {};
    load(from + i, value);
    if (add) load(to + i, old);
    value[0] += old[0];
    store(to + i, value);
}

template <class From, class To>
void convert(const char* what, cudaStream_t stream, const void* from, void* to, std::int64_t count,
             bool add) {
    if (count == 0) return;
    launch(what, stream, convert_kernel<From, To>, dim3(as_unsigned(ceil_div(count, 256))),
           dim3(256), 0, from, to, count, add);
}

}  // namespace

void from_nchw(cudaStream_t stream, const float* from, const View& to) {
    with_type(to.type, [&](auto zero) {
        transpose<decltype(zero), false>(stream, from, static_cast<float*>(nullptr), to);
    });
}

void to_nchw(cudaStream_t stream, const View& from, float* to) {
    with_type(from.type, [&](auto zero) {
        transpose<decltype(zero), true>(stream, static_cast<const float*>(nullptr), to, from);
    });
}

void to_bf16(cudaStream_t stream, const float* from, void* to, std::int64_t count) {
    convert<float, __nv_bfloat16>("rounding of parameters", stream, from, to, count, false);
}

void accumulate(cudaStream_t stream, DType type, const void* from, float* to, std::int64_t count,
                bool add) {
    with_type(type, [&](auto zero) {
        convert<decltype(zero), float>("addition of a weight's gradient", stream, from, to, count,
                                       add);
    });
}

}  // namespace deeplab::cuda
