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

// For tests that leave no file to open or little memory to map, or load a library before all
// others: the sanitizers do all of that themselves.
#define DEEPLAB_SKIP_UNDER_SANITIZERS()                                                           \
    if (::deeplab::testing::sanitized)                                                            \
    GTEST_SKIP() << "skipped: the sanitizers open files, map memory and load libraries of their " \
                    "own"
