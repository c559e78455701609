#pragma once
// Short texts between ranks, beside whatever collectives are under way.

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "deeplab/comm/communicator.h"

namespace deeplab::comm {

struct Letter {
    int from = 0;
    std::string text;
};

// One thread at a time. Nothing here blocks or waits for another rank, so that a rank that hangs
// keeps nobody from saying so. Errors: DeviceError.
class Mailbox {
public:
    static constexpr std::size_t longest = 400;  // bytes of a text; the rest is cut off

    // While an exception unwinds, or with letters under way, what MPI holds is left to it.
    virtual ~Mailbox() = default;
    virtual int rank() const = 0;
    virtual int size() const = 0;
    // False, and nothing sent, while the last letter to that rank is under way.
    virtual bool send(int to, const std::string& text) = 0;
    virtual std::vector<Letter> receive() = 0;  // what has arrived since the last call
};

// Who calls a mailbox: a thread of its own, or the one that drives MPI.
enum class MailboxThread { own, main };

// Collective over `world`. Empty when there is nobody to write to, or (own) the MPI library allows
// no calls from several threads at once.
std::unique_ptr<Mailbox> make_mailbox(Communicator& world,
                                      MailboxThread thread = MailboxThread::own);

}  // namespace deeplab::comm
