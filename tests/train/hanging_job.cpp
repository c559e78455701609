// deeplab-hanging-job KIND: a program whose last rank hangs on purpose under a watchdog of one
// second (ten where it fails), for watchdog_test.cpp.
#include <signal.h>

#include <chrono>
#include <string>
#include <thread>

#include "deeplab/base/error.h"
#include "deeplab/train/watchdog.h"

using namespace deeplab;

namespace {

void sleep_for(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

int body(comm::Communicator& world, const std::string& kind) {
    // A rank that fails alone waits two seconds for the others' failures before it speaks.
    const train::Watchdog watchdog(world, kind == "throws" ? 10 : 1);
    const comm::Phase training("training", 7);
    const int last = world.size() - 1;
    if (kind == "reads" && world.rank() == last) {
        const comm::Phase reading("reading data", 7);
        sleep_for(1000);
    }
    if (kind == "first" && world.rank() == 0) sleep_for(1000);
    if (kind == "stopped" && world.rank() == 0) raise(SIGSTOP);
    if (kind == "stopped-at-once" && world.rank() == last) raise(SIGSTOP);
    if (kind == "mismatch" && world.rank() == last) world.barrier("another barrier");
    if (kind == "throws" && world.rank() == last) throw DataError("one record is broken");
    if (kind == "beats" && world.rank() == last) {
        const comm::Phase evaluation("evaluation", 7);
        for (int i = 0; i < 10; ++i) {
            sleep_for(0.3);
            comm::beat();
        }
    }
    double sum = 1;
    world.all_reduce(&sum, 1, DType::f64, comm::ReduceOp::sum, "sum that nobody finishes");
    if (kind == "mismatch") world.barrier("a barrier");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    const std::string kind = argc > 1 ? argv[1] : "";
    return comm::run_guarded(session, [&] { return body(session.world(), kind); });
}
