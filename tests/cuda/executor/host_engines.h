#pragma once
// What a test tells the library that stands in cuDNN's place (host_convolution.cpp): it has three
// engines for every convolution, whose sums differ in the last bits.

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace deeplab::testing {

struct HostLibrary {
    std::string device = "host";
    // Of an engine that is timed; none: all take 1 ms.
    std::function<double(const std::string& key, std::int64_t engine)> milliseconds;
    std::function<void(const std::string& key, std::int64_t engine)> fails;  // a plan: by throwing
    std::int64_t workspace = 512;  // bytes, of engine plans that are made from now on
    std::map<std::string, std::int64_t>
        chosen;              // engines by key, of the engine plans that were taken
    std::int64_t timed = 0;  // plans
};

HostLibrary& host_library();

}  // namespace deeplab::testing
