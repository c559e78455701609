#pragma once
// The device of the stand-in, as a test describes it to a program that it starts: words
// NAME=NUMBER in DEEPLAB_TEST_DEVICE.
//   count=0       no device is visible
//   memory=BYTES  that it has
//   fails=N       the Nth launch of a graph is its last: an illegal access

#include <cstdint>
#include <string>

namespace deeplab::shim {

// A word of a variable, else `otherwise`.
std::int64_t setting(const char* variable, const std::string& name, std::int64_t otherwise);

int visible_devices();
// Of this process's device: the ranks of a node have one each.
std::string bus_id();
bool device_failed();
// At every launch of a graph: whether the device fails with it.
bool fails_at_launch();

}  // namespace deeplab::shim
