#pragma once
// What a test tells the library that stands in cuDNN's place (host_convolution.cpp): it has three
// engines for every convolution, whose sums differ in the last bits. To a program that it starts it
// says so by words NAME=ENGINE in DEEPLAB_TEST_ENGINES:
//   fastest=E      where engines are timed
//   unbuildable=E  its plans cannot be made
//   unrunnable=E   its plans cannot be run when they are tried
//   failing=E      nor when they are chosen, in a step

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace deeplab::testing {

struct HostLibrary {
    std::string device = "host";
    // Of an engine that is timed; none: all take 1 ms.
    std::function<double(const std::string& key, std::int64_t engine)> milliseconds;
    // By throwing: an engine plan that is made, one that is tried, one in a step.
    std::function<void(const std::string&key, std::int64_t engine)> fails, fails_when_tried,
        fails_in_a_step;
    std::int64_t workspace = 512;  // bytes, of engine plans that are made from now on
    std::map<std::string, std::int64_t>
        chosen;              // engines by key, of the engine plans that were taken
    std::int64_t timed = 0;  // plans
};

HostLibrary& host_library();

}  // namespace deeplab::testing
