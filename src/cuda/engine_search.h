#pragma once
// Finds a convolution's engine among candidates by trying them. What an engine is, how its engine
// plan is made and run, is behind an interface: cuDNN's are in convolution.h, tests have others.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "choice_cache.h"

namespace deeplab::cuda {

// An engine with its knobs, as the library's heuristics propose it.
struct Candidate {
    Choice choice;
    bool runtime_compiled = false;  // seconds to make an engine plan of it
    std::string notes;              // "tensor-core nondeterministic"
};

// The engines of one convolution on one device. Two plans live at a time: the one that was built
// last, and the one that was taken. Each function but key() and take() throws DeviceError where it
// fails; what that is worth is for the caller to decide.
class Engines {
public:
    virtual ~Engines() = default;
    virtual std::string key() const = 0;  // library, device, convolution: one line without tabs
    // Best first by the heuristics. thorough: slower heuristics are asked, too.
    virtual std::vector<Candidate> candidates(bool thorough) = 0;
    // Bytes of workspace that the plan wants; nothing where the library does not know the engine,
    // or cannot do this with it.
    virtual std::optional<std::int64_t> build(const Choice& choice) = 0;
    virtual void
    take() = 0;  // the engine plan that was built last, in place of the one taken before
    // Memory for what runs read and write; before the first of them.
    virtual void prepare() = 0;
    // The engine plan that was built last: once, waited for; or its milliseconds.
    virtual void run() = 0;
    virtual double time() = 0;
    // After a failure: forgets what it left behind. Throws where the device itself has failed.
    virtual void recover() = 0;
};

struct TuningOptions {
    std::int64_t workspace_limit = std::int64_t{1} << 30;  // bytes; engines that want more are out
    int candidates = 16;                                   // engine configurations that are timed
    bool runtime_compiled = true;  // engines that are compiled when their engine plan is made, too
    std::chrono::seconds save_every{10};  // while engines are timed
};

// What a candidate has to pass: each includes those before it.
enum class Trial : std::uint8_t { build, run, time };

struct Attempt {
    Candidate candidate;
    std::size_t place = 0;  // in the heuristics' list, from 1
    double build_seconds = 0;
    std::int64_t workspace = -1;  // bytes; -1: there is no plan
    double milliseconds = 0;      // 0: not measured
    bool failed = false;          // by an error: neither unsupported nor too large
    std::string left_out;         // why; empty: it works
};

struct SearchResult {
    std::optional<std::size_t>
        chosen;  // of attempts; its engine plan is the one taken. None: none works
    std::vector<Attempt> attempts;  // in the order of trial
    std::size_t candidates = 0;     // that the heuristics proposed
    std::string no_room;  // why there was no memory to run candidates: they were only built
};

// Trial::time: the fastest of `options.candidates` candidates; else the first that passes. The best
// configuration of each engine is tried before second ones; engines that are compiled at run time
// come last, as each takes seconds for each convolution. A candidate that fails is left out;
// DeviceError where the device itself fails.
SearchResult search(Engines& engines, const TuningOptions& options, Trial trial);

// "cuDNN has no engine for …": why, from the attempts, and what to do.
std::string no_engine(const std::string& key, const TuningOptions& options,
                      const SearchResult& result);

}  // namespace deeplab::cuda
