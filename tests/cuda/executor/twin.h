#pragma once
// The other rank of two is a twin of this one: it has the same values, so that their sum is twice
// as much.

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "deeplab/comm/communicator.h"

namespace deeplab::testing {

class Twin final : public comm::Communicator {
public:
    explicit Twin(std::chrono::milliseconds delay = {}) : delay_(delay) {}
    int sums = 0;

    int rank() const override { return 0; }
    int size() const override { return 2; }
    std::string description() const override { return "a rank and its twin"; }

    void all_reduce(void* data, std::size_t count, DType type, comm::ReduceOp op,
                    const char* what) override {
        ASSERT_EQ(type, DType::f32) << what;
        ASSERT_EQ(op, comm::ReduceOp::sum) << what;
        std::this_thread::sleep_for(delay_);
        ++sums;
        for (std::size_t i = 0; i < count; ++i) static_cast<float*>(data)[i] *= 2;
    }
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
        return {text, text};
    }
    std::unique_ptr<Communicator> split(int, int) override { return std::make_unique<Twin>(); }
    std::unique_ptr<Communicator> split_by_node() override { return std::make_unique<Twin>(); }

private:
    std::chrono::milliseconds delay_;
};

}  // namespace deeplab::testing
