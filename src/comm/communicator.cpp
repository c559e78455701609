#include "deeplab/comm/communicator.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <new>
#include <system_error>
#include <thread>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/limits.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "launcher.h"

namespace deeplab::comm {
namespace {

// How long a rank that has failed waits for the others to fail, too.
constexpr std::chrono::milliseconds others_wait{2000};

// Whether another rank tells of this failure: all ranks have failed within a while, and one before
// this one with the same message. `everyone` serves nothing else, so that a rank that goes on
// inside another collective is not disturbed.
bool told_by_another(Communicator& everyone, const std::string& message) {
    std::int64_t all = 1;
    const Request everybody = everyone.start_all_reduce(&all, 1, DType::i64, ReduceOp::min,
                                                        "failure of all ranks");
    const auto end = Clock::now() + others_wait;
    while (!everyone.done(everybody)) {
        if (Clock::now() >= end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    everyone.finish(everybody);
    const auto texts = everyone.all_gather(message, "messages of the ranks");
    const auto first = std::find(texts.begin(), texts.end(), message);
    // Rank 0 ends the job: those with something else to say come first.
    const bool alike = std::count(texts.begin(), texts.end(), message) == everyone.size();
    if (!alike && everyone.rank() == 0) std::this_thread::sleep_for(others_wait / 10);
    return first - texts.begin() < everyone.rank();
}

// Of the program that runs now: all its ranks, for nothing but how it ends.
Communicator* last_words = nullptr;

std::string bug(const std::string& what) {
    return cat("this is a bug in the program: ", what,
               " — the results cannot be trusted — please report it with the command");
}

// What Open MPI takes as it starts (measured: 75 MiB and 20 files), and HDF5 at its first file.
// They crash, or end the process, where they do not get it.
constexpr std::int64_t needed_memory = std::int64_t{96} << 20;
constexpr int needed_files = 32;

void require_room() {
    if (!can_map(needed_memory, false))
        throw DeviceError(
            cat("no memory for the libraries of the program", memory_limit(),
                " — MPI and HDF5 need ", human_bytes(needed_memory),
                " before any work — raise the limit (ulimit -v unlimited; in a job the memory that "
                "it asks for)"));
    if (!can_open(needed_files))
        throw DeviceError(cat("too few files may be open", file_limit(), " — MPI needs up to ",
                              needed_files, " before any work — raise the limit (ulimit -n 1024)"));
}

// Where a process may not have a thread or memory, its system says so in two ways.
bool out_of_threads(const std::system_error& error) {
    return error.code() == std::errc::resource_unavailable_try_again;
}

// A program goes on when its output cannot be written, but does not keep that to itself. The reader
// of a pipe may end when it has enough ("… | head").
void check_output() {
    std::cout.flush();
    pollfd output{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
    if (!std::cout.fail() || (poll(&output, 1, 0) > 0 && (output.revents & POLLERR) != 0)) return;
    log::warn(
        "standard output could not be written — what was printed there is not complete — look at "
        "the room for that file, and run again if you need the text");
}

// Writes the message of the exception that is being handled, does what is `last`, and ends a job of
// several ranks. The exit code of a program of one.
int fail(Communicator& world, const std::function<void()>& last = {}) {
    ExitCode code = ExitCode::bug;
    std::string message;
    try {
        throw;
    } catch (const Error& error) {
        code = error.code();
        message = error.what();
    } catch (const std::bad_alloc&) {
        code = ExitCode::device;
        message = cat("out of memory", memory_limit(),
                      " — the work does not fit this machine — use a smaller batch, crop or image, "
                      "or raise the limit");
    } catch (const std::system_error& error) {
        if (out_of_threads(error)) code = ExitCode::device;
        message = out_of_threads(error)
                      ? cat("the system gives no more threads", memory_limit(),
                            " — the program cannot work without them — raise the limits of "
                            "processes (ulimit -u) and of memory (ulimit -v), or use fewer "
                            "--threads")
                      : bug(error.what());
    } catch (const std::exception& exception) {
        message = bug(exception.what());
    } catch (...) {
        message = bug("an exception of unknown type");
    }
    const bool speaks_first = world.rank() == 0;  // and waits for nobody
    if (speaks_first) log::error(message);
    if (world.size() == 1) return static_cast<int>(code);
    bool told = false;
    try {
        told = last_words != nullptr && told_by_another(*last_words, message);
    } catch (const std::exception&) {
        // A rank that cannot hear of the others speaks for itself.
    }
    if (!told && !speaks_first) log::error(message);
    if (last) last();
    // The one that told ends the job; the others are there in case it does not.
    if (told) std::this_thread::sleep_for(others_wait);
    abort_job(static_cast<int>(code));
}

}  // namespace

MpiSession::MpiSession(int* argc, char*** argv) {
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
    try {
        require_room();
        start(argc, argv);
        const std::string problem = launcher_problem(
            world_ ? world_->size() : 1, mpi_built(),
            [](const char* name) { return std::getenv(name); });
        if (!problem.empty()) throw UsageError(problem);
    } catch (...) {
        problem_ = std::current_exception();
    }
    if (!world_) world_ = make_self();
    if (!last_words_) last_words_ = make_self();
}

Communicator& MpiSession::world() {
    if (problem_) std::rethrow_exception(problem_);
    return *world_;
}

int run_guarded(MpiSession& session, const std::function<int()>& body) {
    last_words = session.last_words_.get();
    int code = 0;
    try {
        code = body();
        check_output();
    } catch (...) {
        code = fail(*session.last_words_);
    }
    last_words = nullptr;
    return code;
}

void end_job_on_error(Communicator& world, const std::function<void()>& part,
                      const std::function<void()>& last) {
    try {
        part();
    } catch (...) {
        if (world.size() == 1) throw;
        fail(world, last);
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
