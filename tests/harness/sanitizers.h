#pragma once
// What a test cannot ask of a program that the sanitizers watch.

#include <gtest/gtest.h>

namespace deeplab::testing {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace deeplab::testing

// For tests that leave no file to open, or load a library before all others: the sanitizers do both
// themselves.
#define DEEPLAB_SKIP_UNDER_SANITIZERS() \
    if (::deeplab::testing::sanitized)  \
    GTEST_SKIP() << "skipped: the sanitizers open files and load libraries of their own"
