#include "deeplab/comm/device_communicator.h"

#include <chrono>
#include <thread>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"

namespace deeplab::comm {
namespace {
// A step takes milliseconds: waking up this late costs less than a percent of it.
constexpr std::chrono::microseconds spin{500}, nap{30};
constexpr std::chrono::milliseconds between_checks{5};

[[noreturn]] void time_out(std::span<DeviceCommunicator* const> communicators, double timeout_s) {
    std::string last;
    for (const DeviceCommunicator* communicator : communicators)
        last += cat(last.empty() ? "" : ", ", communicator->last_collective());
    throw DeviceError(cat("the device has not finished within ", human_seconds(timeout_s),
                          " (collectives last started: ", last.empty() ? "none" : last,
                          ") — another rank is gone or hangs, and waiting longer would not help — "
                          "look for the first rank that failed, then start again with --resume"));
}

}  // namespace

void abort_all(std::span<DeviceCommunicator* const> communicators) noexcept {
    if (!communicators.empty()) communicators.front()->abort(communicators.subspan(1));
}

void wait_until(const std::function<bool()>& done,
                std::span<DeviceCommunicator* const> communicators, double timeout_s) {
    const Collective inside("sums over ranks on the device");
    const Clock::time_point begin = Clock::now();
    Clock::time_point checked = begin;
    while (!done()) {
        const Clock::time_point now = Clock::now();
        if (now - checked > between_checks) {
            checked = now;
            for (DeviceCommunicator* communicator : communicators) communicator->check();
            if (timeout_s > 0 && seconds_between(begin, now) > timeout_s)
                time_out(communicators, timeout_s);
        }
        if (now - begin > spin) std::this_thread::sleep_for(nap);
    }
}

}  // namespace deeplab::comm
