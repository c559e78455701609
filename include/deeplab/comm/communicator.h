#pragma once
// A group of ranks. Every member function is collective unless it says otherwise: all ranks call
// it, in the same order.
//
// Errors: a failed collective throws DeviceError naming the collective. Nothing here throws while
// unwinding.

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "deeplab/base/types.h"

namespace deeplab::comm {

enum class ReduceOp { sum, min, max };

// Handle of a collective that was started and not finished yet.
using Request = int;

class Communicator {
public:
    virtual ~Communicator() = default;

    virtual int rank() const = 0;  // 0 .. size-1; not collective
    virtual int size() const = 0;  // not collective
    virtual std::string description() const = 0;

    // data[i] = op over ranks of data[i], in place; host memory. `what` names the collective in
    // errors.
    virtual void all_reduce(void* data, std::size_t count, DType type, ReduceOp op,
                            const char* what) = 0;

    // The same in two halves: between them `data` belongs to the communicator. The algorithm (so:
    // the bits of a sum) is that of start_all_reduce, whether finish follows at once or later;
    // all_reduce may give other bits.
    virtual Request start_all_reduce(void* data, std::size_t count, DType type, ReduceOp op,
                                     const char* what) = 0;
    virtual void finish(Request request) = 0;
    virtual void progress() = 0;  // pushes started collectives on; never blocks; not collective
    // Whether finish(request) would not wait; never blocks; not collective.
    virtual bool done(Request request) { return request >= 0; }

    virtual void broadcast(void* data, std::size_t bytes, int root, const char* what) = 0;
    virtual void barrier(const char* what) = 0;
    // Every rank's text, in rank order, on every rank.
    virtual std::vector<std::string> all_gather(const std::string& text, const char* what) = 0;

    virtual std::unique_ptr<Communicator> split(int color, int key) = 0;
    virtual std::unique_ptr<Communicator>
    split_by_host() = 0;  // the ranks that share this rank's memory
    std::unique_ptr<Communicator> duplicate() { return split(0, rank()); }
};

// Rank 0 of 1: every collective is a no-op.
std::unique_ptr<Communicator> make_self();

// MPI is initialised while an object lives; the first thing a program does. Also sets
// log::set_rank. When the program was built without MPI, or with no launcher, world() is a
// communicator of one rank. SIGPIPE and SIGXFSZ are ignored from here on, so that a closed pipe or
// a file-size limit is an error of that output alone; MPI itself makes files at its start.
class MpiSession {
public:
    // Throws nothing: what fails is for world() to tell, inside run_guarded.
    MpiSession(int* argc, char*** argv);
    ~MpiSession();  // finalises; while an exception unwinds on more than one rank: does not block
    MpiSession(const MpiSession&) = delete;
    MpiSession& operator=(const MpiSession&) = delete;

    // Throws what has failed at the start: too little memory or too few files for MPI
    // (DeviceError), or a launcher whose ranks do not know each other (UsageError). --help needs no
    // world.
    Communicator& world();

private:
    friend int run_guarded(MpiSession& session, const std::function<int()>& body);
    void start(int* argc, char*** argv);

    std::unique_ptr<Communicator> world_, last_words_;  // of one rank where MPI did not start
    std::exception_ptr problem_;
};

// Ends the whole job with `code`; for a rank that failed alone while the others may be inside a
// collective.
[[noreturn]] void abort_job(int code);

// Runs a program's body with the error policy of all programs: Error -> its message and exit code,
// anything else -> "bug" and 1; a rank of several aborts the job so that the others do not hang.
// Ranks that fail with the same message are told of once, by the first of them. No rank waits here
// for the others: the body's first exchange is the program's.
int run_guarded(MpiSession& session, const std::function<int()>& body);

// Runs a part of a program's body under the same policy. An error there ends a job of several ranks
// at once, message first, while what lives around the part still does: on the way out of it
// destructors would wait for a device that waits for other ranks. `last` is done between the
// message and the end. With one rank the error goes on.
void end_job_on_error(Communicator& world, const std::function<void()>& part,
                      const std::function<void()>& last = {});

// What was built in and why not, e.g. "nccl: not built (configure with -DDEEPLAB_NCCL=ON)".
std::string nccl_status();
bool nccl_built();
// "NAME=value" of this process's variables whose names begin with NCCL_, sorted.
std::vector<std::string> nccl_variables();

}  // namespace deeplab::comm
