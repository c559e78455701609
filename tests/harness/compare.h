#pragma once
// Comparison of tensors by norms: single elements near zero do not decide.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ranges>

namespace deeplab::testing {

// |actual - expected| / |expected| in the Euclidean norm; of the difference alone where `expected`
// is zero. NaN in either gives NaN, different sizes give infinity: neither is below any limit.
template <std::ranges::random_access_range Actual, std::ranges::random_access_range Expected>
double relative_error(const Actual& actual, const Expected& expected) {
    if (std::ranges::size(actual) != std::ranges::size(expected)) return INFINITY;
    double difference = 0, norm = 0;
    auto a = std::ranges::begin(actual);
    for (const auto& value : expected) {
        const double e = static_cast<double>(value), d = static_cast<double>(*a++) - e;
        difference += d * d;
        norm += e * e;
    }
    return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

// Largest absolute difference, with the same rules for NaN and sizes.
template <std::ranges::random_access_range Actual, std::ranges::random_access_range Expected>
double largest_difference(const Actual& actual, const Expected& expected) {
    if (std::ranges::size(actual) != std::ranges::size(expected)) return INFINITY;
    double largest = 0;
    auto a = std::ranges::begin(actual);
    for (const auto& value : expected) {
        const double d = std::abs(static_cast<double>(*a++) - static_cast<double>(value));
        if (std::isnan(d)) return NAN;
        largest = std::max(largest, d);
    }
    return largest;
}

// EXPECT_TRUE(near(got, wanted, 1e-5)) << "what";
template <class Actual, class Expected>
::testing::AssertionResult near(const Actual& actual, const Expected& expected, double limit) {
    const double error = relative_error(actual, expected);
    if (error <= limit)
        return ::testing::AssertionSuccess() << "relative error " << error << " <= " << limit;
    return ::testing::AssertionFailure()
           << "relative error " << error << ", limit " << limit << ", " << std::ranges::size(actual)
           << " and " << std::ranges::size(expected) << " elements, largest difference "
           << largest_difference(actual, expected);
}

}  // namespace deeplab::testing
