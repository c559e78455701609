// A test that leaves a complaint of the stand-in for CUDA (shim/record.h) has failed.

#include <gtest/gtest.h>

#include "record.h"

namespace deeplab::testing {
namespace {

class Complaints final : public ::testing::EmptyTestEventListener {
    void OnTestStart(const ::testing::TestInfo&) override { shim::take_complaints(); }
    void OnTestEnd(const ::testing::TestInfo&) override {
        for (const std::string& text : shim::take_complaints())
            ADD_FAILURE() << "the stand-in for CUDA complains: " << text;
    }
};

const bool listening = [] {
    ::testing::UnitTest::GetInstance()->listeners().Append(new Complaints);
    return true;
}();

}  // namespace
}  // namespace deeplab::testing
