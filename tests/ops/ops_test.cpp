// Every op's cases on the backend that the program is linked with (harness/device.h), against the
// interpreter of tests/reference.

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "deeplab/base/text.h"
#include "deeplab/graph/operands.h"
#include "deeplab/math/bf16.h"
#include "ops/cases.h"
#include "reference/interpreter.h"
#include "reference/tolerances.h"

namespace deeplab::testing {
namespace {

using reference::Interpreter;

// Elements whose roundings make a mean: the tolerances of bf16 are of that.
constexpr std::size_t enough = 200;

// "BatchNormAct saved": how reference/tolerances.h calls a node's output.
std::string output_name(const graph::Node& node, std::size_t i) {
    static const std::map<std::string, std::vector<const char*>> several = {
        {"BatchNormAct", {"y", "saved"}},
        {"BatchNormGradSums", {"gsums", "dgamma", "dbeta", "dz"}},
        {"Conv2dGradWeights", {"dw", "dbias"}},
        {"MaxPool", {"y", "arg"}},
        {"SegmentationLoss", {"loss", "dlogits"}}};
    const std::string op = graph::name(node.op);
    const auto names = several.find(op);
    if (names != several.end()) return cat(op, ' ', names->second[i]);
    return cat(op, op.find("Grad") == std::string::npos ? " y" : " dx");
}

double rms(const Values& values) {
    double squares = 0;
    for (const double v : values) squares += v * v;
    return std::sqrt(squares / static_cast<double>(values.size()));
}

// A case on the device and by the interpreter, step by step.
class CaseRun {
public:
    // observed: gets the largest error of each op's output before it is rounded.
    CaseRun(const OpCase& c, DType type, std::map<std::string, double>& observed)
        : p_(c.plan()), type_(type), observed_(observed) {
        graph::set_activation_type(p_.t.plan, type);
        backend_ = device(2);
        const bool gpu = !backend_->on_host();
        expected_.emplace(plan(), case_seed, reference::Roundings{gpu, gpu});
        for (const auto& [id, value] : p_.t.given) expected_->give(id, value);
        p_.t.set_up(*backend_);
        for (const graph::Parameter& p : plan().parameters) {  // overwritten by the first step
            backend_->upload(
                p, exec::Slot::gradient,
                std::vector<float>(static_cast<std::size_t>(p.shape.elements()), 1e9f));
        }
        executable_ = backend_->compile(plan(), {gradients_.get(), batch_norm_.get()},
                                        {.seed = case_seed, .poison = true});
        for (const graph::Tensor& t : plan().tensors) parents_.insert(t.parent);
    }

    bool updates() const { return p_.updates(); }
    // The first writes the parameters' gradients, the others add to them.
    void steps(int count) {
        for (int i = 0; i < count; ++i) {
            SCOPED_TRACE(cat("step ", i));
            const exec::MicroBatch step = p_.step(i == 0);
            const exec::MicroBatchResult result = executable_->run(step);
            expected_->run(step);
            for (const graph::Node& node : plan().nodes) compare(node);
            for (const graph::State& s : plan().states) {
                const Values wanted = expected_->value(s.value).data;
                check("BatchNormAct running statistics", backend_->download(s), wanted, &wanted,
                      DType::f32);
            }
            if (plan().loss != graph::none) {
                const double loss = expected_->value(plan().loss).data[0];
                EXPECT_NEAR(result.loss_sum, loss, reference::fp32_op * std::abs(loss) + 1e-12);
                observe("SegmentationLoss loss",
                        loss == 0 ? 0 : std::abs(result.loss_sum / loss - 1));
            }
            EXPECT_TRUE(result.finite);
            if (p_.updates()) compare_update(result);
        }
    }

private:
    const graph::Plan& plan() const { return p_.t.plan; }

    void compare(const graph::Node& node) {
        if (graph::on_flat_buffers(node)) return;
        for (std::size_t i = 0; i < node.out.size(); ++i) {
            const TensorId id = *std::next(node.out.begin(), static_cast<std::ptrdiff_t>(i));
            const graph::Tensor& t = plan().tensor(id);
            const bool gradient = t.space == graph::Space::gradient;
            if (!gradient &&
                (t.space != graph::Space::arena || !plan().tensor(plan().root(id)).keep))
                continue;
            // A GPU's copy of bytes that are not the labels' does not leave it.
            if (t.dtype == DType::u8 && !backend_->on_host()) continue;
            const std::vector<float> got = executable_->download(id);
            const Values stored = expected_->value(id).data;
            // What is written into slices of a tensor is no output of the tensor's own node.
            check(output_name(node, i), got, stored,
                  parents_.contains(id) ? nullptr : &expected_->exact(id).data, t.dtype);
        }
    }

    // A GPU gives gradients of weights in the activations' type.
    double bf16_limit(const std::string& output) const {
        if (output == "Conv2dGradWeights dw" && !backend_->on_host()) return reference::bf16_store;
        for (const reference::Tolerance& t : reference::bf16_tolerances)
            if (output == t.output) return t.limit;
        ADD_FAILURE() << "no tolerance for " << output;
        return 0;
    }

    // exact: before it was rounded; null where that is not known.
    void check(const std::string& output, const std::vector<float>& got, const Values& stored,
               const Values* exact, DType dtype) {
        if (dtype == DType::u8) {
            EXPECT_EQ(got, floats(stored)) << output;
            return;
        }
        EXPECT_TRUE(
            near(got, stored, type_ == DType::bf16 ? reference::bf16_flips : reference::fp32_op))
            << output;
        if (type_ != DType::bf16 || exact == nullptr) return;
        if (got.size() >= enough) {
            const double error = relative_error(got, *exact), limit = bf16_limit(output);
            EXPECT_LE(error, limit) << output;
            observe(output, error);
        }
        if (dtype != DType::bf16) return;
        const double size = rms(*exact);
        for (std::size_t i = 0; i < got.size(); ++i) {
            ASSERT_EQ(got[i], math::round_to_bf16(got[i])) << output << " stores bf16 values";
            ASSERT_LE(std::abs(static_cast<double>(got[i]) - (*exact)[i]),
                      reference::bf16_element * std::abs((*exact)[i]) + reference::fp32_op * size)
                << output << ", element " << i;
        }
    }

    void observe(const std::string& output, double error) {
        double& largest = observed_[output];
        largest = std::max(largest, error);
    }

    void compare_update(const exec::MicroBatchResult& result) {
        const double norm = expected_->gradient_norm();
        EXPECT_NEAR(result.gradient_norm, norm, 1e-3 * norm);
        for (std::size_t i = 0; i < plan().parameters.size(); ++i) {
            const graph::Parameter& p = plan().parameters[i];
            const double limit = type_ == DType::bf16 ? reference::bf16_flips : reference::fp32_op;
            EXPECT_TRUE(near(backend_->download(p, exec::Slot::value),
                             expected_->value(p.value).data, limit));
            EXPECT_TRUE(
                near(backend_->download(p, exec::Slot::momentum), expected_->momentum(i), limit));
        }
    }

    CasePlan p_;
    DType type_;
    std::map<std::string, double>& observed_;
    std::unique_ptr<exec::Backend> backend_;
    std::unique_ptr<comm::Communicator> gradients_ = comm::make_self(),
                                        batch_norm_ = comm::make_self();
    std::unique_ptr<exec::Executable> executable_;
    std::optional<Interpreter> expected_;
    std::set<TensorId> parents_;
};

class OpCases : public ::testing::TestWithParam<OpCase> {};

TEST_P(OpCases, AgreeWithTheReference) {
    std::map<std::string, double> observed;
    CaseRun run(GetParam(), DType::f32, observed);
    run.steps(run.updates() ? 3 : 2);
}

INSTANTIATE_TEST_SUITE_P(All, OpCases, ::testing::ValuesIn(op_cases()));

class OpFamilies : public ::testing::TestWithParam<std::string> {};

// All cases of an op at once: the largest error tells whether a tolerance is loose.
TEST_P(OpFamilies, Bf16StaysWithinItsTolerancesWhichAreNotLoose) {
    std::map<std::string, double> observed;
    for (const OpCase& c : op_cases()) {
        if (c.family != GetParam()) continue;
        SCOPED_TRACE(c.name);
        CaseRun run(c, DType::bf16, observed);
        run.steps(run.updates() ? 3 : 1);
    }
    for (const auto& [output, error] : observed) {
        // Of a case of another op it only copies.
        if (output.starts_with("Upsample") && GetParam() != "Upsample") continue;
        RecordProperty(output, cat(error));
        for (const reference::Tolerance& t : reference::bf16_tolerances) {
            if (output == t.output && t.limit > reference::fp32_op) {
                EXPECT_GE(2 * error, t.limit) << output;
            }
        }
    }
}

std::vector<std::string> families() {
    std::vector<std::string> all;
    for (const OpCase& c : op_cases())
        if (std::find(all.begin(), all.end(), c.family) == all.end()) all.push_back(c.family);
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, OpFamilies, ::testing::ValuesIn(families()));

template <std::size_t... I>
std::vector<std::string> all_ops(std::index_sequence<I...>) {
    return {graph::name(graph::Op(std::in_place_index<I>))...};
}

TEST(OpList, EveryOpOfAPlanIsInACase) {
    std::set<std::string> present;
    for (const OpCase& c : op_cases())
        for (const graph::Node& node : c.plan().t.plan.nodes) present.insert(graph::name(node.op));
    for (const std::string& op :
         all_ops(std::make_index_sequence<std::variant_size_v<graph::Op>>{}))
        EXPECT_TRUE(present.contains(op)) << op << " of graph/plan.h is in no case of tests/ops";
}

// Names tell cases apart, and every tolerance is some case's.
TEST(OpList, NamesAreDistinct) {
    std::set<std::string> names;
    for (const OpCase& c : op_cases())
        EXPECT_TRUE(names.insert(::testing::PrintToString(c)).second)
            << ::testing::PrintToString(c);
    EXPECT_GT(names.size(), 200u);
}

}  // namespace
}  // namespace deeplab::testing
