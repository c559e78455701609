#pragma once
// Engines of a library that does and fails as a test says.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/error.h"
#include "engine_search.h"

namespace deeplab::testing {

struct PretendedEngine {
    std::int64_t engine = 0, knob = 0;
    double milliseconds = 1;
    std::int64_t workspace = 64;
    bool runtime_compiled = false;
    bool supported = true;
    bool build_fails = false, out_of_memory = false, run_fails = false;
    bool device_fails = false;  // when it runs
};

class PretendedEngines final : public cuda::Engines {
public:
    explicit PretendedEngines(std::vector<PretendedEngine> engines) : list(std::move(engines)) {}

    std::vector<PretendedEngine> list;
    std::string name = "pretended | device | a convolution";
    bool no_room = false, broken = false, thorough = false;
    std::int64_t taken = -1;
    int timed = 0, recovered = 0;

    std::string key() const override { return name; }
    std::vector<cuda::Candidate> candidates(bool all) override {
        thorough = all;
        std::vector<cuda::Candidate> candidates;
        for (const PretendedEngine& e : list)
            candidates.push_back({{e.engine, {{1, e.knob}}, 0}, e.runtime_compiled, "notes"});
        return candidates;
    }
    std::optional<std::int64_t> build(const cuda::Choice& choice) override {
        for (const PretendedEngine& e : list) {
            if (e.engine != choice.engine || e.knob != choice.knobs.at(0).second) continue;
            if (e.build_fails) throw DeviceError("plan failed — why — what to do");
            if (!e.supported) return std::nullopt;
            built_ = e;
            return e.workspace;
        }
        return std::nullopt;
    }
    void take() override { taken = built_.engine; }
    void prepare() override {
        if (no_room) throw DeviceError("no memory");
    }
    void run() override {
        if (built_.out_of_memory) throw DeviceError("out of device memory in a workspace");
        if (built_.run_fails) throw DeviceError("it failed");
        broken = broken || built_.device_fails;
        if (broken) throw DeviceError("illegal address");
    }
    double time() override {
        ++timed;
        run();
        return built_.milliseconds;
    }
    void recover() override {
        ++recovered;
        if (broken) throw DeviceError("illegal address");
    }

private:
    PretendedEngine built_;
};

}  // namespace deeplab::testing
