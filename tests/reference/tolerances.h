#pragma once
// How far a device with bf16 activations may be from the double-precision reference, op by op
// ("Numbers" in graph/plan.h says where it rounds). For tests of such a device, and of the CPU's
// emulation.
//
// The reference gets what the device holds: activations and convolution weights rounded to bf16
// (reference::bf16), all else fp32. Errors are relative in the Euclidean norm (harness/compare.h),
// of the result to what it was before it was rounded; sums have up to about 3,000 terms. "Observed"
// is the largest error of the CPU's emulation over the cases of tests/ops, whose test also checks
// that no limit of an op that stores bf16 is more than twice that.

#include <span>

namespace deeplab::reference {

// One store. A number between 2^e and 2^(e+1) is rounded by at most 2^(e-8), evenly distributed:
// 2^(e-8) / sqrt(3) in the mean square, which is the largest part of the number at 2^e. Observed:
// 1.5e-3 to 1.9e-3, numbers being spread over the interval.
inline constexpr double bf16_store = 0x1p-8 / 1.7320508075688772;
// Of results to a reference that was rounded likewise: values next to a rounding's edge may go to
// the other side.
inline constexpr double bf16_flips = 5e-4;
// No store: fp32 sums of exact products. The limit of every op in fp32; observed: below 1e-7. Not
// tighter, since tensor cores cut off where they align the terms of a sum.
inline constexpr double fp32_op = 1e-5;
// The same as a limit of each element where there is one store: half a unit in the last place,
// beside the fp32 error, which is relative to the tensor's root mean square.
inline constexpr double bf16_element = 0x1p-8;

struct Tolerance {
    const char* output;  // of which op
    double limit;
};

inline constexpr Tolerance bf16_tolerances[] = {
    {"Conv2d y", bf16_store},
    {"Conv2dGradData dx", bf16_store},
    {"Conv2dGradWeights dw", fp32_op},
    {"Conv2dGradWeights dbias", fp32_op},
    {"BatchNormAct y", bf16_store},
    {"BatchNormAct saved", fp32_op},
    {"BatchNormAct running statistics", fp32_op},
    {"BatchNormGradSums dgamma", fp32_op},
    {"BatchNormGradSums dbeta", fp32_op},
    {"BatchNormGradSums dz", bf16_store},
    {"BatchNormActGrad dx", bf16_store},
    {"MaxPool y", 0},  // one of its inputs
    {"MaxPoolGrad dx", bf16_store},
    {"GlobalAveragePool y", bf16_store},
    {"GlobalAveragePoolGrad dx", bf16_store},
    {"Upsample y", bf16_store},
    {"UpsampleGrad dx", bf16_store},
    {"Dropout y", bf16_store},
    {"DropoutGrad dx", bf16_store},
    {"Sum y", bf16_store},
    {"SegmentationLoss loss", fp32_op},
    {"SegmentationLoss dlogits", bf16_store},
};

}  // namespace deeplab::reference
