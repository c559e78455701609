#pragma once
// What a device reaches at best, as our backends use it: the bounds of a kernel's time.

#include "network_step.h"

namespace deeplab::bench {

struct Peaks {
    double flops = 0;  // a second: the best run of a large 1x1 convolution, which is a matrix
                       // product, in the precision of the options
    double bytes = 0;  // a second: the best run of y = a + b over arrays far larger than the cache;
                       // two are read, one is written (STREAM's "add")
};

// On the device and with the threads of `options`. The backend's memory is free again afterwards.
Peaks measure_peaks(const NetworkOptions& options, comm::Communicator& world);

}  // namespace deeplab::bench
