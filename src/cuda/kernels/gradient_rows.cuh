#pragma once
// Several gradients of one tensor, read as their sum.

#include <vector>

#include "launch.cuh"
#include "vector.cuh"

namespace deeplab::cuda {

constexpr std::size_t gradients_most = 8;

template <class T>
struct GradientRows {
    Rows<const T> rows[gradients_most];
    int count = 0;

    GradientRows() = default;
    explicit GradientRows(const std::vector<View>& views) : count(static_cast<int>(views.size())) {
        for (std::size_t i = 0; i < views.size(); ++i)
            rows[i] = {views[i].as<const T>(), views[i].pitch};
    }

    // The sums at U pixels from p, `step` apart, of V channels from c: all loads of one gradient
    // before any is used.
    template <int U, int V>
    __device__ __forceinline__ void sums(int p, int step, int pixels, int c,
                                         float (&sum)[U][V]) const {
#pragma unroll
        for (int u = 0; u < U; ++u) {
#pragma unroll
            for (int i = 0; i < V; ++i) sum[u][i] = 0.0f;
        }
#pragma unroll 1
        for (int g = 0; g < count; ++g) {
            Packed<T, V> in[U];
#pragma unroll
            for (int u = 0; u < U; ++u) {
                if (p + u * step < pixels) in[u] = load<V>(rows[g].at(p + u * step, c));
            }
#pragma unroll
            for (int u = 0; u < U; ++u) {
                if (p + u * step >= pixels) continue;
                float value[V];
                unpack(in[u], value);
#pragma unroll
                for (int i = 0; i < V; ++i) sum[u][i] += value[i];
            }
        }
    }
};

// with_vectors() for a kernel that also reads these gradients.
template <class F, class... Views>
void with_gradients(const std::vector<View>& dy, const F& f, const Views&... views) {
    expects(!dy.empty() && dy.size() <= gradients_most, "one to eight gradients meet in one op");
    std::vector<View> eight = dy;
    eight.resize(gradients_most);
    with_vectors(f, views..., eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6],
                 eight[7]);
}

}  // namespace deeplab::cuda
