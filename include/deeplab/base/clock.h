#pragma once
// Time as it passes: not the time of day.

#include <chrono>

namespace deeplab {

using Clock = std::chrono::steady_clock;

inline double seconds_between(Clock::time_point begin, Clock::time_point end) {
    return std::chrono::duration<double>(end - begin).count();
}
inline double seconds_since(Clock::time_point begin) {
    return seconds_between(begin, Clock::now());
}
template <class Work>
double seconds_of(const Work& work) {
    const Clock::time_point begin = Clock::now();
    work();
    return seconds_since(begin);
}

}  // namespace deeplab
