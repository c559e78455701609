#pragma once
// Depthwise convolutions: one filter a channel, of any size, stride and rate. A few multiplications
// a value: what counts is how often a value comes from memory. oneDNN has fast kernels for some of
// these only; its gradients at a rate above 1 are 10 to 100 times slower than its forward pass.
//
// Channels are innermost in memory and in the loops. Forward and data gradient are the same sum:
// each value that is written collects from the places that its taps meet. Each thread has rows of
// its own; gradients of weights are fp32 sums over a sample's rows, fp64 over samples and threads.

#include <vector>

#include "convolution.h"

namespace deeplab::cpu {

class DepthwiseConvolution final : public Convolution {
public:
    // Without bias. `threads` and `scratch` must outlive it.
    DepthwiseConvolution(const Threads& threads, Pass pass, const graph::ConvGeometry& geometry,
                         const ConvolutionTensors& tensors, const Buffer& scratch);

    std::int64_t scratch_bytes() const override;
    void run(bool add) override;

    // A tap of the kernel's axis, and the place that it meets of what is read.
    struct Meeting {
        std::int64_t tap, at;
    };
    // The meetings of each place that is written.
    using Axis = std::vector<std::vector<Meeting>>;

private:
    template <class F>
    void each_part(const View& read, const View& written, const F& f) const;
    std::int64_t rows_apart() const;
    std::vector<std::int64_t> order(std::int64_t first, std::int64_t last) const;
    void prefetch_next(const View& read, std::int64_t item, std::int64_t next, std::int64_t c,
                       std::int64_t count) const;
    bool shares() const;
    template <math::Activation A, class T, int V>
    void write(const View& to, std::int64_t place, std::int64_t c, const T (&sum)[V]) const;
    template <math::Activation A>
    void gather() const;
    template <math::Activation A>
    void sum_products(bool add) const;
    void write_gradient(bool add) const;

    std::int64_t taps() const { return t_.w.shape.h * t_.w.shape.w; }
    // Of the weights, or of a thread's sums, by tap: (taps, C).
    float* packed() const;
    float* row_sums(int thread) const;
    double* sample_sums(int thread) const;
    void pack_weights() const;

    const Threads& threads_;
    Pass pass_;
    graph::ConvGeometry g_;
    ConvolutionTensors t_;
    const Buffer& scratch_;
    Axis rows_, columns_;  // of y (forward, weights) or of dx
};

}  // namespace deeplab::cpu
