#include "mpi_mailbox.h"

#include <algorithm>
#include <array>
#include <exception>

namespace deeplab::comm {
namespace {

constexpr int tag = 1;
constexpr const char* what = "letter between ranks";

class MpiMailbox final : public Mailbox {
public:
    explicit MpiMailbox(MPI_Comm comm) : comm_(comm) {
        check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), what);
        check_mpi(MPI_Comm_rank(comm_, &rank_), what);
        check_mpi(MPI_Comm_size(comm_, &size_), what);
        sent_.resize(static_cast<std::size_t>(size_));
    }
    ~MpiMailbox() override {
        bool idle = std::uncaught_exceptions() == 0;
        for (Sent& sent : sent_) idle = done(sent) && idle;
        int finalized = 0;
        MPI_Finalized(&finalized);
        if (idle && finalized == 0) MPI_Comm_free(&comm_);
        // The buffers of letters that are under way belong to MPI.
        for (Sent& sent : sent_) {
            if (sent.request != MPI_REQUEST_NULL) static_cast<void>(sent.text.release());
        }
    }
    MpiMailbox(const MpiMailbox&) = delete;
    MpiMailbox& operator=(const MpiMailbox&) = delete;

    int rank() const override { return rank_; }
    int size() const override { return size_; }

    bool send(int to, const std::string& text) override {
        Sent& sent = sent_.at(static_cast<std::size_t>(to));
        if (!done(sent)) return false;
        if (!sent.text) sent.text = std::make_unique<Buffer>();
        const std::size_t bytes = std::min(text.size(), longest);
        std::copy_n(text.begin(), bytes, sent.text->begin());
        check_mpi(MPI_Isend(sent.text->data(), static_cast<int>(bytes), MPI_CHAR, to, tag, comm_,
                            &sent.request),
                  what);
        return true;
    }

    std::vector<Letter> receive() override {
        std::vector<Letter> letters;
        while (true) {
            int there = 0;
            MPI_Message message = MPI_MESSAGE_NULL;
            MPI_Status status;
            check_mpi(MPI_Improbe(MPI_ANY_SOURCE, tag, comm_, &there, &message, &status), what);
            if (there == 0) return letters;
            int bytes = 0;
            check_mpi(MPI_Get_count(&status, MPI_CHAR, &bytes), what);
            Letter letter{status.MPI_SOURCE, std::string(static_cast<std::size_t>(bytes), '\0')};
            check_mpi(MPI_Mrecv(letter.text.data(), bytes, MPI_CHAR, &message, MPI_STATUS_IGNORE),
                      what);
            letters.push_back(std::move(letter));
        }
    }

private:
    using Buffer = std::array<char, longest>;
    struct Sent {
        MPI_Request request = MPI_REQUEST_NULL;
        std::unique_ptr<Buffer> text;
    };

    static bool done(Sent& sent) {
        int flag = 0;
        return MPI_Test(&sent.request, &flag, MPI_STATUS_IGNORE) == MPI_SUCCESS && flag != 0;
    }

    MPI_Comm comm_;
    int rank_ = 0, size_ = 1;
    std::vector<Sent> sent_;
};

}  // namespace

std::unique_ptr<Mailbox> make_mpi_mailbox(MPI_Comm own) {
    return std::make_unique<MpiMailbox>(own);
}

}  // namespace deeplab::comm
