#include "deeplab/comm/communicator.h"

#include <chrono>
#include <new>
#include <thread>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"

namespace deeplab::comm {
namespace {

// When all ranks fail alike (a wrong option, say), rank 0 alone should say so: it prints and ends
// the job at once, and the others are gone before they speak. A rank that fails alone is heard
// after this pause.
constexpr std::chrono::milliseconds wait_for_rank_0{400};

int fail(Communicator& world, int code, const std::string& message) {
    if (world.rank() != 0) std::this_thread::sleep_for(wait_for_rank_0);
    log::error(message);
    if (world.size() > 1) abort_job(code);
    return code;
}

std::string bug(const std::string& what) {
    return cat("this is a bug in the program: ", what,
               " — the results cannot be trusted — please report it with the command");
}

}  // namespace

int run_guarded(MpiSession& session, const std::function<int()>& body) {
    Communicator& world = session.world();
    try {
        return body();
    } catch (const Error& error) {
        return fail(world, static_cast<int>(error.code()), error.what());
    } catch (const std::bad_alloc&) {
        return fail(world, static_cast<int>(ExitCode::device),
                    "out of memory — the work does not fit this machine — use a smaller batch, "
                    "crop or image");
    } catch (const std::exception& exception) {
        return fail(world, static_cast<int>(ExitCode::bug), bug(exception.what()));
    } catch (...) {
        return fail(world, static_cast<int>(ExitCode::bug), bug("an exception of unknown type"));
    }
}

}  // namespace deeplab::comm
