#pragma once
// The cases in which every op is tested: shapes and attributes, once. A case is a tiny plan, which
// the CPU backend, the CUDA backend and its kernels run (ops_test.cpp, cuda/kernels/cases_test.cpp)
// and of which the reference takes finite differences (reference/finite_difference_test.cpp). What
// only one of them needs (many pixels, one launch's edges) stands beside it.

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "ops/case_plans.h"

namespace deeplab::testing {

struct OpCase {
    std::string family;  // the forward op
    std::string name;
    std::function<CasePlan()> plan;
    bool differences = false;  // small, and away from kinks: for finite differences
};
void PrintTo(const OpCase& c, std::ostream* out);

std::vector<OpCase> op_cases();

const std::vector<ConvolutionCase>& convolution_cases();
const std::vector<NormCase>& norm_cases();

}  // namespace deeplab::testing
