#pragma once
// A rank of a group that is not there: collectives leave its values as they are. Tests put in what
// the others would do.

#include <memory>
#include <string>
#include <vector>

#include "deeplab/comm/communicator.h"

namespace deeplab::testing {

class LoneCommunicator : public comm::Communicator {
public:
    LoneCommunicator(int rank, int size) : rank_(rank), size_(size) {}
    int rank() const override { return rank_; }
    int size() const override { return size_; }
    std::string description() const override { return "ranks in name only"; }

    void all_reduce(void*, std::size_t, DType, comm::ReduceOp, const char*) override {}
    comm::Request start_all_reduce(void* data, std::size_t count, DType type, comm::ReduceOp op,
                                   const char* what) override {
        all_reduce(data, count, type, op, what);
        return 0;
    }
    void finish(comm::Request) override {}
    void progress() override {}
    void broadcast(void*, std::size_t, int, const char*) override {}
    void barrier(const char*) override {}
    std::vector<std::string> all_gather(const std::string& text, const char*) override {
        return {text};
    }
    std::unique_ptr<Communicator> split(int, int) override { return comm::make_self(); }
    std::unique_ptr<Communicator> split_by_host() override { return comm::make_self(); }

private:
    int rank_, size_;
};

}  // namespace deeplab::testing
