#pragma once
// The other rank of two is a twin of this one: it has the same values, so that their sum is twice
// as much.

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "harness/lone_communicator.h"

namespace deeplab::testing {

class Twin final : public LoneCommunicator {
public:
    explicit Twin(std::chrono::milliseconds delay = {}) : LoneCommunicator(0, 2), delay_(delay) {}
    int sums = 0;

    void all_reduce(void* data, std::size_t count, DType type, comm::ReduceOp op,
                    const char* what) override {
        ASSERT_EQ(type, DType::f32) << what;
        ASSERT_EQ(op, comm::ReduceOp::sum) << what;
        std::this_thread::sleep_for(delay_);
        ++sums;
        for (std::size_t i = 0; i < count; ++i) static_cast<float*>(data)[i] *= 2;
    }
    std::vector<std::string> all_gather(const std::string& text, const char*) override {
        return {text, text};
    }
    std::unique_ptr<Communicator> split(int, int) override { return std::make_unique<Twin>(); }
    std::unique_ptr<Communicator> split_by_host() override { return std::make_unique<Twin>(); }

private:
    std::chrono::milliseconds delay_;
};

}  // namespace deeplab::testing
