#include "deeplab/comm/communicator.h"

#include <unistd.h>

#include <algorithm>
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

std::string bug(const std::string& what) {
    return cat("this is a bug in the program: ", what,
               " — the results cannot be trusted — please report it with the command");
}

// Writes the message of the exception that is being handled and ends a job of several ranks. The
// exit code of a program of one.
int fail(Communicator& world) {
    int code = static_cast<int>(ExitCode::bug);
    std::string message;
    try {
        throw;
    } catch (const Error& error) {
        code = static_cast<int>(error.code());
        message = error.what();
    } catch (const std::bad_alloc&) {
        code = static_cast<int>(ExitCode::device);
        message =
            "out of memory — the work does not fit this machine — use a smaller batch, crop or "
            "image";
    } catch (const std::exception& exception) {
        message = bug(exception.what());
    } catch (...) {
        message = bug("an exception of unknown type");
    }
    if (world.rank() != 0) std::this_thread::sleep_for(wait_for_rank_0);
    log::error(message);
    if (world.size() > 1) abort_job(code);
    return code;
}

}  // namespace

int run_guarded(MpiSession& session, const std::function<int()>& body) {
    try {
        return body();
    } catch (...) {
        return fail(session.world());
    }
}

void end_job_on_error(Communicator& world, const std::function<void()>& part) {
    try {
        part();
    } catch (...) {
        if (world.size() == 1) throw;
        fail(world);
    }
}

std::vector<std::string> nccl_variables() {
    std::vector<std::string> found;
    for (char** variable = environ; *variable != nullptr; ++variable) {
        const std::string text = *variable;
        if (text.starts_with("NCCL_")) found.push_back(text);
    }
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace deeplab::comm
