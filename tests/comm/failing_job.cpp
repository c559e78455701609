// deeplab-failing-job KIND: a program that fails on purpose, for exit_code_test.cpp.
#include <chrono>
#include <iostream>
#include <new>
#include <string>
#include <thread>

#include "deeplab/base/error.h"
#include "deeplab/comm/communicator.h"

using namespace deeplab;

namespace {

// Of a device that waits for a rank that is gone: as an executable and its communicators, of which
// an abort does not return.
struct LostDevice {
    ~LostDevice() { std::this_thread::sleep_for(std::chrono::seconds(1000)); }
};

int body(comm::Communicator& world, const std::string& kind) {
    const bool last = world.rank() == world.size() - 1;
    if (kind == "ok") return 0;
    if (kind == "older") {
        const auto texts = world.all_gather(last ? "older" : "newer", "comparison of the programs");
        if (texts.front() != texts.back()) throw UsageError("the last rank's program is older");
    }
    if (kind == "stopped") return 75;
    if (kind == "prints") {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        for (int i = 0; i < 10000; ++i) std::cout << "a line of output\n";
        return 0;
    }
    if (kind == "late") {
        if (last) std::this_thread::sleep_for(std::chrono::seconds(1));
        throw UsageError("all of them, some late");
    }
    if (kind == "two-voices")
        throw UsageError(world.rank() == 0 ? "what rank 0 says" : "what the others say");
    if (kind == "usage") throw UsageError("everybody reads the same wrong option");
    if (kind == "memory") throw std::bad_alloc();
    if (kind == "odd") throw 42;
    if (kind == "logic") expects(false, "tests make this fail");
    if (last && kind == "lone-data") throw DataError("one rank found a broken record");
    if (last && kind == "lone-device") throw DeviceError("one rank lost its device");
    if (last && kind == "lone-usage") throw UsageError("one rank disagrees");
    if (last && kind == "lone-stopped") throw Error(ExitCode::stopped_early, "one rank stopped");
    if (last && kind == "lone-bug") throw std::runtime_error("an index out of range");
    if (last && kind == "lost-rank" && world.size() > 1) {
        const LostDevice device;
        comm::end_job_on_error(world,
                               [] { throw DeviceError("no answer in gradients: bucket 2"); });
    }
    world.barrier("the wait for a rank that never comes");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    const std::string kind = argc > 1 ? argv[1] : "";
    if (kind == "older" && session.world().rank() == session.world().size() - 1) {
        try {  // as before there were last words
            return body(session.world(), kind);
        } catch (const Error& error) {
            comm::abort_job(static_cast<int>(error.code()));
        }
    }
    return comm::run_guarded(session, [&] { return body(session.world(), kind); });
}
