#include "update.h"

#include "deeplab/math/sgd.h"
#include "launch.cuh"
#include "reduce.cuh"

namespace deeplab::cuda {
namespace {

constexpr int threads = 512;
constexpr std::int64_t norm_blocks = 2 * processors, piece = 8192;

__global__ void __launch_bounds__(threads, 2)
    norm_kernel(const float* gradients, std::int64_t count, double gradient_scale, float clip_norm,
                const StepScalars* step, UpdateOutcome* outcome, double* partial,
                std::uint32_t* tickets) {
    constexpr int unroll = 4;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * threads, vectors = count / 4;
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
    double sum = 0;
    for (std::int64_t i = first; i < vectors; i += unroll * stride) {
        float value[unroll][4] = {};
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
            if (i + u * stride < vectors) load(gradients + 4 * (i + u * stride), value[u]);
        }
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const double v = static_cast<double>(value[u][k]);
                sum = fma(v, v, sum);
            }
        }
    }
    for (std::int64_t i = 4 * vectors + first; i < count; i += stride) {
        const double v = static_cast<double>(gradients[i]);
        sum = fma(v, v, sum);
    }
    const double own = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = own;
    if (!last_block(tickets, gridDim.x)) return;
    double all = 0;
    for (unsigned b = threadIdx.x; b < gridDim.x; b += threads) all += __ldcg(partial + b);
    all = block_sum(all);
    if (threadIdx.x != 0) return;
    const double pixels = step->valid_pixels;
    const double scale = pixels > 0 ? 1.0 / (gradient_scale * pixels) : 0.0,
                 norm = sqrt(all) * scale;
    outcome->norm = norm;
    outcome->factor = static_cast<float>(scale *
                                         math::clip_factor(norm, static_cast<double>(clip_norm)));
    outcome->finite = norm - norm == 0.0 ? 1u : 0u;  // infinity and NaN give NaN
}

template <bool Copy>
__global__ void __launch_bounds__(256)
    sgd_kernel(FlatBuffers buffers, const UpdatePiece* pieces, float momentum,
               const StepScalars* step, const UpdateOutcome* outcome) {
    if (outcome->finite == 0) return;
    const UpdatePiece p = pieces[blockIdx.x];
    const float factor = outcome->factor;
    const math::SgdRule rule{
        static_cast<float>(step->learning_rate * static_cast<double>(p.lr_multiplier)), momentum,
        p.weight_decay, p.steps, p.accumulate_decay};
    float *values = buffers.values + p.offset, *momenta = buffers.momenta + p.offset;
    const float* gradients = buffers.gradients + p.offset;
    __nv_bfloat16* copy = Copy ? static_cast<__nv_bfloat16*>(buffers.bf16) + p.offset : nullptr;
    const std::int64_t vectors = p.count / 4;
    for (std::int64_t i = threadIdx.x; i < vectors; i += 256) {
        float value[4], gradient[4], buffer[4];
        load(values + 4 * i, value);
        load(gradients + 4 * i, gradient);
        load(momenta + 4 * i, buffer);
#pragma unroll
        for (int k = 0; k < 4; ++k) math::sgd(value[k], buffer[k], gradient[k] * factor, rule);
        store(values + 4 * i, value);
        store(momenta + 4 * i, buffer);
        if (Copy) store_four(copy + 4 * i, value);
    }
    for (std::int64_t i = 4 * vectors + threadIdx.x; i < p.count; i += 256) {
        math::sgd(values[i], momenta[i], gradients[i] * factor, rule);
        const float value[1] = {values[i]};
        if (Copy) store(copy + i, value);
    }
}

}  // namespace

std::vector<UpdatePiece> update_pieces(const graph::UpdateRule& rule) {
    std::vector<UpdatePiece> pieces;
    for (const graph::UpdateSegment& s : rule.segments) {
        expects(s.offset % 8 == 0, "a segment begins at 16 bytes in the bf16 copy");
        for (std::int64_t done = 0; done < s.count; done += piece) {
            pieces.push_back({s.offset + done, std::min(piece, s.count - done), s.lr_multiplier,
                              s.weight_decay, s.steps, rule.accumulate_decay});
        }
    }
    return pieces;
}

std::int64_t gradient_norm_scratch_bytes() {
    return norm_blocks * static_cast<std::int64_t>(sizeof(double));
}

void gradient_norm(cudaStream_t stream, const float* gradients, std::int64_t count,
                   double gradient_scale, float clip_norm, const StepScalars* step,
                   UpdateOutcome* outcome, const Scratch& scratch) {
    const std::int64_t blocks = std::clamp<std::int64_t>(ceil_div(count, 4 * threads), 1,
                                                         norm_blocks);
    launch("norm of the gradient", stream, norm_kernel, dim3(as_unsigned(blocks)), dim3(threads), 0,
           gradients, count, gradient_scale, clip_norm, step, outcome, scratch.data,
           scratch.tickets);
}

void sgd(cudaStream_t stream, const FlatBuffers& buffers, const UpdatePiece* pieces,
         std::int64_t piece_count, float momentum, const StepScalars* step,
         const UpdateOutcome* outcome) {
    if (piece_count == 0) return;
    const auto kernel = buffers.bf16 != nullptr ? sgd_kernel<true> : sgd_kernel<false>;
    launch("SGD", stream, kernel, dim3(as_unsigned(piece_count)), dim3(256), 0, buffers, pieces,
           momentum, step, outcome);
}

}  // namespace deeplab::cuda
