#pragma once
// The formulas in this folder run on the host and inside kernels: one definition for both.

#if defined(__CUDACC__)
#define DEEPLAB_HD __host__ __device__
#else
#define DEEPLAB_HD
#endif
