#include "deeplab/train/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"

namespace deeplab::train {

namespace {

struct Owner {
    std::string host, job;
    std::int64_t pid = 0;
};

std::string this_job() {
    for (const char* name : {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"}) {
        if (const char* id = std::getenv(name)) return id;
    }
    return "";
}

// nullopt for an empty or damaged file: its writer is gone, or was never there.
std::optional<Owner> read_owner(int file) {
    std::string text(4096, '\0');
    const ssize_t size = pread(file, text.data(), text.size(), 0);
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    if (trim(text).empty()) return std::nullopt;
    try {
        const io::Value value = io::parse_json(text, "lock");
        const auto* object = value.get_if<io::Object>();
        if (object == nullptr) return std::nullopt;
        Owner owner;
        if (const auto* v = object->find("host"); v != nullptr && v->is<std::string>())
            owner.host = *v->get_if<std::string>();
        if (const auto* v = object->find("job"); v != nullptr && v->is<std::string>())
            owner.job = *v->get_if<std::string>();
        if (const auto* v = object->find("pid"); v != nullptr && v->is<std::int64_t>())
            owner.pid = *v->get_if<std::int64_t>();
        return owner;
    } catch (const Error&) {
        return std::nullopt;
    }
}

[[noreturn]] void in_use(const std::filesystem::path& run, const std::optional<Owner>& owner) {
    const std::string who = owner ? cat("host ", owner->host, ", pid ", owner->pid, ", job ",
                                        owner->job.empty() ? "none" : owner->job)
                                  : std::string("an owner that has not written its name yet");
    throw UsageError(cat("the run ", run.string(), " is in use by a live job (", who,
                         ") — two jobs would overwrite each other's checkpoints — wait for that "
                         "job, stop it, or choose another --out"));
}

// Does the file's modification time move within three heartbeats? Needs no agreement of clocks
// between hosts.
bool beats(const std::filesystem::path& lock, std::chrono::milliseconds heartbeat) {
    const auto stamp = [&]() -> std::pair<std::int64_t, std::int64_t> {
        const int file = open(lock.c_str(),
                              O_RDONLY | O_CLOEXEC);  // NFS looks up the time again on open
        struct stat info = {};
        if (file >= 0) {
            fstat(file, &info);
            close(file);
        }
        return {info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
    };
    const auto first = stamp();
    const auto until = Clock::now() + 3 * heartbeat;
    while (Clock::now() < until) {
        std::this_thread::sleep_for(heartbeat / 4);
        if (stamp() != first) return true;
    }
    return false;
}

}  // namespace

struct RunLock::Impl {
    std::filesystem::path path;
    int file = -1;
    std::mutex mutex;
    std::condition_variable wake;
    bool leave = false;
    std::thread beat;

    ~Impl() {
        if (beat.joinable()) {
            {
                const std::lock_guard guard(mutex);
                leave = true;
            }
            wake.notify_all();
            beat.join();
        }
        if (file >= 0) close(file);
    }

    // Opens and, where the file system can, locks the file of this name. Returns whether flock
    // holds.
    bool acquire(const std::filesystem::path& run) {
        for (;;) {
            file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
            if (file < 0) {
                throw UsageError(
                    cat("cannot open ", path.string(), ": ", std::strerror(errno),
                        " — a second job on this run could not be noticed — choose another --out"));
            }
            const bool held = flock(file, LOCK_EX | LOCK_NB) == 0;
            if (!held && errno == EWOULDBLOCK) {
                const auto owner = read_owner(file);
                in_use(run, owner);
            }
            struct stat mine = {}, named = {};
            if (fstat(file, &mine) == 0 && stat(path.c_str(), &named) == 0 &&
                mine.st_ino == named.st_ino)
                return held;
            close(file);  // its owner removed the file between our open and our lock: it is
                          // nobody's name now
            file = -1;
        }
    }

    void write_owner() {
        io::Object object;
        object["host"] = log::host();
        object["pid"] = static_cast<std::int64_t>(getpid());
        object["job"] = this_job();
        const std::string text = io::to_json(object) + "\n";
        if (ftruncate(file, 0) != 0 ||
            pwrite(file, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
            throw UsageError(
                cat("cannot write ", path.string(), ": ", std::strerror(errno),
                    " — the run could not be locked — free space, or choose another --out"));
        }
    }

    void start_heartbeat(std::chrono::milliseconds heartbeat) {
        beat = std::thread([this, heartbeat] {
            std::unique_lock guard(mutex);
            while (!wake.wait_for(guard, heartbeat, [this] { return leave; }))
                futimens(file, nullptr);
        });
    }
};

RunLock::RunLock(const std::filesystem::path& run, std::chrono::milliseconds heartbeat)
    : impl_(std::make_unique<Impl>()) {
    impl_->path = run / "lock";
    const bool held = impl_->acquire(run);
    if (const auto owner = read_owner(impl_->file)) {
        const bool here = owner->host == log::host(),
                   requeued = !owner->job.empty() && owner->job == this_job();
        bool alive = false;
        if (!here)
            alive = !requeued && beats(impl_->path, heartbeat);
        else if (!held)
            alive = owner->pid > 0 &&
                    (kill(static_cast<pid_t>(owner->pid), 0) == 0 || errno == EPERM);
        if (alive) in_use(run, owner);
        log::warn(cat("taking over the lock of a dead job on ", run.string(), " (host ",
                      owner->host, ", pid ", owner->pid, ")"));
    }
    impl_->write_owner();
    impl_->start_heartbeat(heartbeat);
}

RunLock::~RunLock() { unlink(impl_->path.c_str()); }

}  // namespace deeplab::train
