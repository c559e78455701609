#pragma once
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11): random
// numbers as a pure function of a key and a counter, so that they do not depend on ranks, threads
// or the order of work.

#include <cstdint>

#include "deeplab/math/macros.h"

namespace deeplab::math {

struct Philox4 {
    std::uint32_t v[4];
};

// One block of four 32-bit numbers.
DEEPLAB_HD inline Philox4 philox(std::uint64_t key, const Philox4& counter) {
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    Philox4 c = counter;
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = 0xD2511F53ull * c.v[0], p1 = 0xCD9E8D57ull * c.v[2];
        c = Philox4{
            {static_cast<std::uint32_t>(p1 >> 32) ^ c.v[1] ^ k0, static_cast<std::uint32_t>(p1),
             static_cast<std::uint32_t>(p0 >> 32) ^ c.v[3] ^ k1, static_cast<std::uint32_t>(p0)}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

// [0, 1) with 24 bits: exact in float.
DEEPLAB_HD inline float uniform(std::uint32_t bits) {
    return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f);
}

// Who a random number belongs to. Position p of the endless training stream is sample `sample` of
// epoch `epoch`.
struct SampleKey {
    std::uint32_t epoch = 0, sample = 0;
};

// Streams: the purposes random numbers serve, so that no two share a counter.
enum class Stream : std::uint32_t {
    augmentation = 0,
    shuffle = 1,
    initialisation = 2,
    dropout = 16 /* + layer */
};

// Block `block` of the numbers of one sample and purpose.
DEEPLAB_HD inline Philox4 sample_random(std::uint64_t seed, SampleKey key, std::uint32_t stream,
                                        std::uint32_t block) {
    return philox(seed, Philox4{{block, stream, key.sample, key.epoch}});
}

// Dropout (torch.nn.Dropout, element-wise): is element `index` of a sample kept? `index` counts the
// sample's elements in logical C H W order, whatever the layout in memory; four elements share a
// block.
DEEPLAB_HD inline bool dropout_keeps(std::uint64_t seed, SampleKey key, std::uint32_t layer,
                                     std::uint32_t index, float probability) {
    const Philox4 r = sample_random(seed, key, static_cast<std::uint32_t>(Stream::dropout) + layer,
                                    index / 4);
    return uniform(r.v[index % 4]) >= probability;
}

}  // namespace deeplab::math
