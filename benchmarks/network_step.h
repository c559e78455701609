#pragma once
// A network with initial values on one device, ready to take training steps on generated input:
// what the sub-commands that measure steps share.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/base/command_line.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/exec/backend.h"
#include "deeplab/model/deeplab.h"
#include "step_input.h"

namespace deeplab::bench {

// --device, --comm, --engines and --threads, as the programs have them.
struct PlaceOptions {
    std::string device = "auto", comm = "auto", engines = "timed";
    std::int64_t threads = 0;
};
void add_place_options(CommandLine& line, PlaceOptions& options);
// Collective over `world`; of its errors see tools::make_backend.
std::unique_ptr<exec::Backend> make_backend(const PlaceOptions& options, comm::Communicator& world);

struct NetworkOptions : PlaceOptions {
    std::string backbone = "resnet101", precision = "fp32";
    std::int64_t crop = 513, batch = 2, classes = 21, output_stride = 16;
    bool no_graph = false;
};

void add_model_options(CommandLine& line, NetworkOptions& options);  // all but batch and precision
void add_network_options(CommandLine& line, NetworkOptions& options);
void check_network(const NetworkOptions& options);  // UsageError

model::ModelConfig model_of(const NetworkOptions& options);
// The backend has allocated the plan.
void upload_initial_values(exec::Backend& backend, const graph::Plan& plan);

class Subject {
public:
    Subject(const NetworkOptions& options, comm::Communicator& world, bool time_nodes);

    exec::MicroBatchResult step();  // DeviceError where the gradient is not finite
    // Seconds on the host from the end of the step before the last one until the last one was
    // under way: as long the device had nothing to do. 0 of a first step.
    double host_gap() const { return host_gap_; }
    // The plan anew, in the executable's place; the state stays as it is. Collective.
    void compile(bool time_nodes);

    graph::Plan plan;
    std::unique_ptr<exec::Backend> backend;
    std::unique_ptr<exec::Executable> executable;
    std::vector<std::pair<std::string, double>> stages;  // of the constructor, in seconds

private:
    std::unique_ptr<comm::Communicator> gradients_, batch_norm_;
    Input input_;
    double valid_ = 0;
    bool prefetched_ = false, graph_;
    std::optional<Clock::time_point> finished_;
    double host_gap_ = 0;
};

// The median over `steps` steps, after one that is not counted, of each node's time, one node after
// the other. The subject was made with time_nodes.
std::vector<double> node_times(std::int64_t steps, Subject& subject);

// Of a batch-norm exchange (ExchangeStart): its tensors go as one message.
std::int64_t message_elements(const graph::Plan& plan, const graph::Node& exchange);

}  // namespace deeplab::bench
