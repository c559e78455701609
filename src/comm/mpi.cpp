#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <exception>
#include <limits>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/comm/communicator.h"
#include "launcher.h"
#include "mpi_mailbox.h"

namespace deeplab::comm {
namespace {

// MPI counts are int. Far below INT_MAX, so that a test reaches the second piece with 64 MB.
constexpr std::size_t max_piece = std::size_t{1} << 26;

void check(int code, const char* what) { check_mpi(code, what); }

MPI_Datatype datatype(DType type) {
    switch (type) {
        case DType::f32: return MPI_FLOAT;
        case DType::f64: return MPI_DOUBLE;
        case DType::u8: return MPI_UINT8_T;
        case DType::i32: return MPI_INT32_T;
        case DType::i64: return MPI_INT64_T;
        case DType::u64: return MPI_UINT64_T;
        case DType::bf16: break;
    }
    throw LogicError(cat("MPI has no all-reduce of ", name(type)));
}

MPI_Op operation(ReduceOp op) {
    switch (op) {
        case ReduceOp::sum: return MPI_SUM;
        case ReduceOp::min: return MPI_MIN;
        case ReduceOp::max: return MPI_MAX;
    }
    throw LogicError("unknown reduction");
}

// Calls part(pointer, count) for pieces that MPI can count.
template <class Part>
void in_pieces(void* data, std::size_t count, std::size_t element, const Part& part) {
    auto* bytes = static_cast<unsigned char*>(data);
    for (std::size_t first = 0; first < count; first += max_piece) {
        part(bytes + first * element, static_cast<int>(std::min(max_piece, count - first)));
    }
}

class Mpi final : public Communicator {
public:
    // Takes ownership, but of MPI_COMM_WORLD.
    explicit Mpi(MPI_Comm comm) : comm_(comm) {
        check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "set-up of a communicator");
        check(MPI_Comm_rank(comm_, &rank_), "set-up of a communicator");
        check(MPI_Comm_size(comm_, &size_), "set-up of a communicator");
    }

    // Freeing is collective: not while unwinding, when the others may be elsewhere, nor with
    // collectives outstanding.
    ~Mpi() override {
        int finalized = 0;
        MPI_Finalized(&finalized);
        if (finalized == 0 && comm_ != MPI_COMM_WORLD && std::uncaught_exceptions() == 0 &&
            outstanding() == 0)
            MPI_Comm_free(&comm_);
    }
    Mpi(const Mpi&) = delete;
    Mpi& operator=(const Mpi&) = delete;

    int rank() const override { return rank_; }
    int size() const override { return size_; }

    std::string description() const override {
        std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
        int length = 0;
        MPI_Get_library_version(text.data(), &length);
        return cat(
            "MPI: ", trim(deeplab::split(deeplab::split(text.data(), ',').front(), '\n').front()),
            ", ", size_, size_ == 1 ? " rank" : " ranks");
    }

    void all_reduce(void* data, std::size_t count, DType type, ReduceOp op,
                    const char* what) override {
        const Collective inside(what);
        in_pieces(data, count, size_of(type), [&](void* piece, int elements) {
            check(
                MPI_Allreduce(MPI_IN_PLACE, piece, elements, datatype(type), operation(op), comm_),
                what);
        });
    }

    Request start_all_reduce(void* data, std::size_t count, DType type, ReduceOp op,
                             const char* what) override {
        // Slots are few (one per bucket or exchange under way) and reused.
        auto slot = std::find_if(slots_.begin(), slots_.end(),
                                 [](const Slot& entry) { return !entry.used; });
        if (slot == slots_.end()) slot = slots_.emplace(slots_.end());
        slot->used = true;
        slot->what = what;
        slot->pieces.clear();
        in_pieces(data, count, size_of(type), [&](void* piece, int elements) {
            MPI_Request request = MPI_REQUEST_NULL;
            check(MPI_Iallreduce(MPI_IN_PLACE, piece, elements, datatype(type), operation(op),
                                 comm_, &request),
                  what);
            slot->pieces.push_back(request);
        });
        return static_cast<Request>(slot - slots_.begin());
    }

    void finish(Request request) override {
        expects(request >= 0 && static_cast<std::size_t>(request) < slots_.size() &&
                    slots_[static_cast<std::size_t>(request)].used,
                "finish() is called once for a collective that was started");
        Slot& slot = slots_[static_cast<std::size_t>(request)];
        slot.used = false;
        const Collective inside(slot.what.c_str());
        check(MPI_Waitall(static_cast<int>(slot.pieces.size()), slot.pieces.data(),
                          MPI_STATUSES_IGNORE),
              slot.what.c_str());
    }

    void progress() override {
        for (Slot& slot : slots_) {
            if (!slot.used) continue;
            int done = 0;  // requests of a finished one become null, for which finish() waits no
                           // time
            check(MPI_Testall(static_cast<int>(slot.pieces.size()), slot.pieces.data(), &done,
                              MPI_STATUSES_IGNORE),
                  slot.what.c_str());
        }
    }

    bool done(Request request) override {
        Slot& slot = slots_.at(static_cast<std::size_t>(request));
        int flag = 0;
        check(MPI_Testall(static_cast<int>(slot.pieces.size()), slot.pieces.data(), &flag,
                          MPI_STATUSES_IGNORE),
              slot.what.c_str());
        return flag != 0;
    }

    void broadcast(void* data, std::size_t bytes, int root, const char* what) override {
        const Collective inside(what);
        in_pieces(data, bytes, 1, [&](void* piece, int count) {
            check(MPI_Bcast(piece, count, MPI_BYTE, root, comm_), what);
        });
    }

    void barrier(const char* what) override {
        const Collective inside(what);
        check(MPI_Barrier(comm_), what);
    }

    std::vector<std::string> all_gather(const std::string& text, const char* what) override {
        const Collective inside(what);
        const auto ranks = static_cast<std::size_t>(size_);
        const std::uint64_t own_length = text.size();
        std::vector<std::uint64_t> lengths(ranks);
        check(MPI_Allgather(&own_length, 1, MPI_UINT64_T, lengths.data(), 1, MPI_UINT64_T, comm_),
              what);
        std::vector<int> counts, offsets;
        std::uint64_t total = 0;
        for (const std::uint64_t length : lengths) {
            counts.push_back(static_cast<int>(length));
            offsets.push_back(static_cast<int>(total));
            total += length;
            expects(total <= INT_MAX, "texts of all_gather are below 2 GiB together");
        }
        std::string all(total, '\0');
        check(MPI_Allgatherv(text.data(), static_cast<int>(own_length), MPI_CHAR, all.data(),
                             counts.data(), offsets.data(), MPI_CHAR, comm_),
              what);
        std::vector<std::string> texts;
        std::size_t begin = 0;
        for (const std::uint64_t length : lengths) {
            texts.push_back(all.substr(begin, length));
            begin += length;
        }
        return texts;
    }

    std::unique_ptr<Communicator> split(int color, int key) override {
        const Collective inside("split of a communicator");
        MPI_Comm part = MPI_COMM_NULL;
        check(MPI_Comm_split(comm_, color, key, &part), "split of a communicator");
        return std::make_unique<Mpi>(part);
    }

    std::unique_ptr<Communicator> split_by_host() override {
        const Collective inside("split of a communicator by host");
        MPI_Comm part = MPI_COMM_NULL;
        check(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &part),
              "split of a communicator by host");
        return std::make_unique<Mpi>(part);
    }

    MPI_Comm duplicate_handle() const {
        const Collective inside("set-up of a mailbox");
        MPI_Comm own = MPI_COMM_NULL;
        check(MPI_Comm_dup(comm_, &own), "set-up of a mailbox");
        return own;
    }

private:
    struct Slot {
        bool used = false;
        std::string what;
        std::vector<MPI_Request> pieces;
    };

    std::size_t outstanding() const {
        return static_cast<std::size_t>(std::count_if(slots_.begin(), slots_.end(),
                                                      [](const Slot& slot) { return slot.used; }));
    }

    MPI_Comm comm_;
    int rank_ = 0, size_ = 1;
    std::vector<Slot> slots_;
};

// By mpirun, or by srun through PMIx or PMI.
bool launched() {
    constexpr std::array names = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    return std::any_of(names.begin(), names.end(),
                       [](const char* name) { return std::getenv(name) != nullptr; });
}

#if defined(OMPI_MAJOR_VERSION) && OMPI_MAJOR_VERSION >= 5
// Open MPI 5 keeps a folder for each process that no launcher started, and crashes without a place
// for it; before, such a process needs none.
void find_place_for_session_folder() {
    const char* named = std::getenv("TMPDIR");
    if (named == nullptr || access(named, W_OK | X_OK) == 0) return;
    log::warn(cat("TMPDIR=", named,
                  " cannot be written to — MPI keeps a folder there while a program runs — /tmp is "
                  "taken; let TMPDIR name a folder that is there"));
    setenv("TMPDIR", "/tmp", 1);
}
#else
void find_place_for_session_folder() {}
#endif

}  // namespace

bool mpi_built() { return true; }

void check_mpi(int code, const char* what) {
    if (code == MPI_SUCCESS) return;
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(code, text.data(), &length);
    throw DeviceError(cat("MPI failed in ", what, ": ", text.data(),
                          " — the ranks cannot go on together — look for the first rank that "
                          "failed, then start again "
                          "with --resume"));
}

void MpiSession::start(int* argc, char*** argv) {
    // Without a launcher Open MPI would start a daemon of its own for this one process.
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    // And all such processes of a user would share one session folder, which the first of them to
    // end may remove under another that begins. One rank needs none.
    if (!launched()) {
        setenv("OMPI_MCA_orte_create_session_dirs", "0", 0);
        find_place_for_session_folder();
    }
    int provided = MPI_THREAD_SINGLE;
    MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided);
    // Nothing else uses MPI_COMM_WORLD. A copy for the last words would be a collective that ranks
    // of an older program do not make.
    last_words_ = std::make_unique<Mpi>(MPI_COMM_WORLD);
    MPI_Comm own = MPI_COMM_NULL;
    check(MPI_Comm_dup(MPI_COMM_WORLD, &own), "set-up of the world communicator");
    world_ = std::make_unique<Mpi>(own);
    log::set_rank(world_->rank(), world_->size());
    if (provided < MPI_THREAD_SERIALIZED && world_->rank() == 0) {
        log::warn(
            "this MPI library allows calls from the main thread alone — an exchange from another "
            "thread would "
            "fail — use a library with MPI_THREAD_SERIALIZED or better");
    }
}

MpiSession::~MpiSession() {
    int started = 0;
    MPI_Initialized(&started);
    // MPI_Finalize waits for all ranks, and they may be inside another collective.
    const bool failed = problem_ != nullptr || std::uncaught_exceptions() > 0,
               blocks = failed && last_words_->size() > 1;
    world_.reset();
    if (started != 0 && !blocks) MPI_Finalize();
}

std::unique_ptr<Mailbox> make_mailbox(Communicator& world, MailboxThread thread) {
    const auto* mpi = dynamic_cast<const Mpi*>(&world);
    if (mpi == nullptr || world.size() == 1) return nullptr;
    int provided = MPI_THREAD_SINGLE;
    MPI_Query_thread(&provided);
    if (thread == MailboxThread::own && provided < MPI_THREAD_MULTIPLE) return nullptr;
    return make_mpi_mailbox(mpi->duplicate_handle());
}

void abort_job(int code) {
    MPI_Abort(MPI_COMM_WORLD, code);
    std::_Exit(code);  // MPI_Abort does not return; the compiler cannot know
}

}  // namespace deeplab::comm
