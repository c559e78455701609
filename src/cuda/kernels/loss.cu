#include "loss.h"

#include "deeplab/math/cross_entropy.h"
#include "launch.cuh"
#include "reduce.cuh"
#include "taps.cuh"

namespace deeplab::cuda {
namespace {

// A block owns some rows and columns of the logits and sees every image pixel that they contribute
// to, a thread one column of the image. It goes down the image band by band: the pixels between
// logits rows b and b + 1 see these two alone, so their gradients to both are kept in the thread,
// and row b is complete when its band is: then the block collects its columns. Pixels at the edge
// of a block's part are computed twice, which is cheaper than partial gradients in memory.
struct Geometry {
    int classes, h, w, height, width;  // logits, image
    int own_h, own_w;                  // of a block, at most
    int ignore;
    float scale;
    bool align_corners;
};

// Shared memory has a row of this many floats a class: threads that collect the classes of one
// column read different banks, where there is room for that.
DEEPLAB_HD constexpr int class_pitch(int threads) { return threads > 32 ? threads + 1 : threads; }

// One value a class, for a thread: registers where their number K is known, else shared memory.
template <int K>
struct PerClass {
    float v[K];

    __device__ PerClass(float*, int) {}
    __device__ __forceinline__ float& operator[](int k) { return v[k]; }
    __device__ __forceinline__ void take(PerClass& other) {
#pragma unroll
        for (int k = 0; k < K; ++k) v[k] = other.v[k];
    }
};
template <>
struct PerClass<0> {
    float* own;

    // (rows of class_pitch)
    __device__ PerClass(float* memory, int row)
        : own(memory + row * class_pitch(static_cast<int>(blockDim.x)) +
              static_cast<int>(threadIdx.x)) {}
    __device__ __forceinline__ float& operator[](int k) {
        return own[k * class_pitch(static_cast<int>(blockDim.x))];
    }
    // `other` has what this had.
    __device__ __forceinline__ void take(PerClass& other) {
        float* mine = own;
        own = other.own;
        other.own = mine;
    }
};

// Logits of one row, between two columns.
template <int K, class T>
__device__ __forceinline__ void row_between(const Rows<const T>& logits, int row,
                                            const math::Tap& x, int classes, PerClass<K>& to) {
    const T *left = logits.at(row + static_cast<int>(x.i0), 0),
            *right = logits.at(row + static_cast<int>(x.i1), 0);
#pragma unroll
    for (int k = 0; k < classes; ++k) {
        float a[1], b[1];
        load(left + k, a);
        load(right + k, b);
        to[k] = (1.0f - x.t) * a[0] + x.t * b[0];
    }
}

// One pixel: its loss, and its gradient added to the two logits rows'.
template <int K>
__device__ __forceinline__ double pixel(float t, int label, float scale, int classes, bool gradient,
                                        PerClass<K>& upper, PerClass<K>& lower, PerClass<K>& z,
                                        PerClass<K>& to_upper, PerClass<K>& to_lower) {
    float largest = 0, label_logit = 0, sum = 0;
#pragma unroll
    for (int k = 0; k < classes; ++k) {
        z[k] = (1.0f - t) * upper[k] + t * lower[k];
        largest = k == 0 || z[k] > largest ? z[k] : largest;
    }
#pragma unroll
    for (int k = 0; k < classes; ++k) {
        if (k == label) label_logit = z[k];
        z[k] = math::exp_nonpositive(z[k] - largest);
        sum += z[k];
    }
    if (gradient) {
        const float factor = scale / sum;
#pragma unroll
        for (int k = 0; k < classes; ++k) {
            const float g = z[k] * factor - (k == label ? scale : 0.0f);
            to_upper[k] += (1.0f - t) * g;
            to_lower[k] += t * g;
        }
    }
    return math::cross_entropy(label_logit, largest, sum);
}

// Columns of the image that a block sees: where they lie between the logits' columns.
struct Columns {
    float* t;
    int *left, *right;  // -1: not in this block
};

// gradients: (classes, class_pitch), of one logits row to the image's columns. Writes its pixels.
template <int K, class T>
__device__ __forceinline__ void collect(const float* gradients, const Columns& columns, int first_x,
                                        int j0, int j1, const Geometry& g, Rows<T> dlogits,
                                        int row) {
    const int threads = static_cast<int>(blockDim.x), pitch = class_pitch(threads),
              classes = K > 0 ? K : g.classes, outputs = (j1 - j0) * classes;
    for (int o = static_cast<int>(threadIdx.x); o < outputs; o += threads) {
        const int j = j0 + o / classes, k = o % classes;
        const Span across = contributions(j, g.w, g.width, g.align_corners);
        const int first = max(across.first - first_x, 0),
                  last = min(across.last - first_x, threads);
        float sum[1] = {};
        for (int x = first; x < last; ++x) {
            const float w = (columns.left[x] == j ? 1.0f - columns.t[x] : 0.0f) +
                            (columns.right[x] == j ? columns.t[x] : 0.0f);
            sum[0] = fmaf(w, gradients[k * pitch + x], sum[0]);
        }
        store(dlogits.at(row + j, k), sum);
    }
}

template <class T, int K>
__global__ void __launch_bounds__(96, 4)
    head_kernel(Rows<const T> logits, const std::uint8_t* labels, Rows<T> dlogits, double* loss,
                double* partial, std::uint32_t* tickets, const Geometry g) {
    float* memory = dynamic_shared<float>();
    const int threads = static_cast<int>(blockDim.x), pitch = class_pitch(threads),
              classes = K > 0 ? K : g.classes, n = static_cast<int>(blockIdx.z);
    const int j0 = static_cast<int>(blockIdx.x) * g.own_w, j1 = min(j0 + g.own_w, g.w),
              r0 = static_cast<int>(blockIdx.y) * g.own_h, r1 = min(r0 + g.own_h, g.h);
    PerClass<K> upper(memory, 0), lower(memory, classes), z(memory, 2 * classes),
        to_upper(memory, 3 * classes), to_lower(memory, 4 * classes);
    float* exchange = memory + (K > 0 ? 1 : 5) * classes * pitch;  // K > 0: the gradients of a row
    const Columns columns{exchange, reinterpret_cast<int*>(exchange + threads),
                          reinterpret_cast<int*>(exchange + 2 * threads)};

    const int first_x = contributions(j0, g.w, g.width, g.align_corners).first,
              x = first_x + static_cast<int>(threadIdx.x);
    const math::Tap across = math::bilinear_tap(min(x, g.width - 1), g.w, g.width, g.align_corners);
    const bool sees = x < g.width && across.i1 >= j0 && across.i0 < j1,
               owns = sees && across.i0 >= j0;
    columns.t[threadIdx.x] = across.t;
    columns.left[threadIdx.x] = sees ? static_cast<int>(across.i0) : -1;
    columns.right[threadIdx.x] = sees ? static_cast<int>(across.i1) : -1;

    double own_loss = 0;
    int band = max(r0 - 1, 0), y = contributions(r0, g.h, g.height, g.align_corners).first;
    while (y < g.height && math::bilinear_tap(y, g.h, g.height, g.align_corners).i0 < band) ++y;
#pragma unroll
    for (int k = 0; k < classes; ++k) to_lower[k] = 0.0f;
    row_between<K>(logits, (n * g.h + band) * g.w, across, classes, lower);
    for (; band < r1; ++band) {
        upper.take(lower);
        row_between<K>(logits, (n * g.h + min(band + 1, g.h - 1)) * g.w, across, classes, lower);
        to_upper.take(to_lower);
#pragma unroll
        for (int k = 0; k < classes; ++k) to_lower[k] = 0.0f;
        for (; y < g.height; ++y) {
            const math::Tap down = math::bilinear_tap(y, g.h, g.height, g.align_corners);
            if (down.i0 != band) break;
            if (!sees) continue;
            const int label = labels[(static_cast<std::int64_t>(n) * g.height + y) * g.width + x];
            if (label == g.ignore) continue;
            const double l = pixel<K>(down.i1 == down.i0 ? 0.0f : down.t, label, g.scale, classes,
                                      static_cast<bool>(dlogits), upper, lower, z, to_upper,
                                      to_lower);
            if (owns && band >= r0) own_loss += l;
        }
        if (!dlogits || band < r0) continue;
        float* gradients = memory;
        if (K > 0) {
            __syncthreads();  // the row before this one has been collected
#pragma unroll
            for (int k = 0; k < classes; ++k)
                gradients[k * pitch + static_cast<int>(threadIdx.x)] = to_upper[k];
        } else {
            gradients = &to_upper[0] - threadIdx.x;
        }
        __syncthreads();
        collect<K>(gradients, columns, first_x, j0, j1, g, dlogits, (n * g.h + band) * g.w);
        if (K == 0) __syncthreads();
    }

    const double sum = block_sum(own_loss);
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z,
                   block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    if (threadIdx.x == 0) partial[block] = sum;
    if (!last_block(tickets, blocks)) return;
    double all = 0;
    for (unsigned b = threadIdx.x; b < blocks; b += blockDim.x) all += __ldcg(partial + b);
    all = block_sum(all);
    if (threadIdx.x == 0) *loss = all;
}

struct Parts {
    std::int64_t threads, own_w, own_h, across, down;

    dim3 grid(std::int64_t samples) const {
        return {as_unsigned(across), as_unsigned(down), as_unsigned(samples)};
    }
};

// As many columns as a block's threads see, and the rows that take the least time: a block computes
// one band more than it owns.
Parts parts(const Shape& logits, const Shape& labels, bool align_corners) {
    Parts p{};
    p.threads = logits.c <= 32 ? 96 : 32;
    const double sides = align_corners ? 1 : 0;
    const double apart = logits.w > 1 && labels.w > 1 ? (static_cast<double>(labels.w) - sides) /
                                                            (static_cast<double>(logits.w) - sides)
                                                      : 0.0;
    p.own_w = logits.w;
    if (apart > 0) {
        p.own_w = std::min(
            p.own_w, static_cast<std::int64_t>(static_cast<double>(p.threads - 4) / apart) - 1);
    }
    expects(p.own_w >= 1 && (logits.w > 1 || labels.w <= p.threads),
            "the head's image is at most 46 times as wide as its logits, 14 times with more than "
            "32 classes");
    p.across = ceil_div(logits.w, p.own_w);
    std::int64_t least = 0;
    for (std::int64_t own = 1; own <= std::min<std::int64_t>(logits.h, 32); ++own) {
        const std::int64_t blocks = p.across * logits.n * ceil_div(logits.h, own),
                           time = ceil_div(blocks, 4 * processors) * (own + 1);
        if (own == 1 || time < least) p.own_h = own, least = time;
    }
    p.down = ceil_div(logits.h, p.own_h);
    return p;
}

template <class T, int K>
void launch_head(cudaStream_t stream, const Parts& p, const View& logits, const View& labels,
                 const View& loss, const View& dlogits, const Scratch& scratch, const Geometry& g) {
    const std::int64_t arrays = K > 0 ? 1 : 5, pitch = class_pitch(static_cast<int>(p.threads)),
                       bytes = (arrays * logits.shape.c * pitch + 3 * p.threads) *
                               static_cast<std::int64_t>(sizeof(float));
    const auto kernel = head_kernel<T, K>;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)),
          "shared memory for the head's classes");
    launch("segmentation loss", stream, kernel, p.grid(logits.shape.n),
           dim3(as_unsigned(p.threads)), static_cast<std::size_t>(bytes), rows<const T>(logits),
           labels.data, rows<T>(dlogits), loss.data, scratch.data, scratch.tickets, g);
}

}  // namespace

std::int64_t segmentation_loss_scratch_bytes(const graph::SegmentationLoss& op, const Shape& logits,
                                             const Shape& labels) {
    const Parts p = parts(logits, labels, op.align_corners);
    return p.across * p.down * logits.n * static_cast<std::int64_t>(sizeof(double));
}

void segmentation_loss(cudaStream_t stream, const graph::SegmentationLoss& op, const View& logits,
                       const View& labels, const View& loss, const View& dlogits,
                       const Scratch& scratch) {
    const Parts p = parts(logits.shape, labels.shape, op.align_corners);
    expects(logits.shape.c <= 256 && logits.pixels() < (std::int64_t{1} << 30),
            "labels are bytes, pixels have 30 bits");
    expects(labels.pitch == 1 && labels.type == DType::u8, "labels are whole u8 planes");
    const auto narrow = [](std::int64_t value) { return static_cast<int>(value); };
    const Shape &l = logits.shape, &image = labels.shape;
    const Geometry g{narrow(l.c),       narrow(l.h),     narrow(l.w),     narrow(image.h),
                     narrow(image.w),   narrow(p.own_h), narrow(p.own_w), op.ignore,
                     op.gradient_scale, op.align_corners};
    with_type(logits.type, [&](auto zero) {
        using T = decltype(zero);
        if (l.c == 21) {
            launch_head<T, 21>(stream, p, logits, labels, loss, dlogits, scratch, g);
        } else {
            launch_head<T, 0>(stream, p, logits, labels, loss, dlogits, scratch, g);
        }
    });
}

}  // namespace deeplab::cuda
