// deeplab-plan-check PROPERTIES CONFIGS: offers every convolution of the presets to cuDNN, for a
// GPU that a file describes (or "current"), and fails when one has no plan. Nothing is executed.
// deeplab-plan-check current: the properties of this machine's first GPU, and on stderr what it is
// and which libraries there are. Exit code 4: there is none that can be used.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <set>

#include "check.h"
#include "convolution.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/config/config.h"
#include "deeplab/cuda/cuda_backend.h"
#include "deeplab/io/value.h"
#include "runtime_compiler.h"

namespace {

using namespace deeplab;
using cuda::ConvolutionProblem;

struct Problems {
    std::vector<ConvolutionProblem> list;
    std::set<std::string> keys;

    // Deterministic: what it leaves out can only add engines, and it is the default.
    void add(const graph::Plan& plan, std::initializer_list<Precision> precisions) {
        for (const Precision precision : precisions) {
            for (const ConvolutionProblem& p : cuda::convolution_problems(plan, precision, true)) {
                if (keys.insert(key(p)).second) list.push_back(p);
            }
        }
    }
};

graph::Plan plan_of(model::ModelConfig model, std::int64_t batch, const data::CropSize& crop) {
    if (model.num_classes == 0) model.num_classes = 21;  // VOC's
    model::TrainingOptions training;
    training.batch = batch;
    training.height = crop.height;
    training.width = crop.width;
    return model::training_plan(model, training, {});
}

bool is_class_file(const std::filesystem::path& file) {
    const io::Value root = io::parse_toml(read_text(file), file.string());
    const io::Object* table = root.get_if<io::Object>();
    return table != nullptr && table->find("class") != nullptr;
}

Problems problems_of(const std::filesystem::path& configs) {
    Problems problems;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(configs)) {
        // Files of classes lie there too.
        if (entry.path().extension() == ".toml" && !is_class_file(entry.path()))
            files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
        const config::Config config = config::load_config(file, {});
        problems.add(plan_of(config.model, config.train.global_batch / config.train.accumulation,
                             config.data.augmentation.crop),
                     {Precision::bf16, Precision::tf32, Precision::fp32});
    }
    const auto add = [&](const std::string& backbone, int stride, std::int64_t batch) {
        model::ModelConfig model;
        model.backbone = backbone;
        model.output_stride = stride;
        problems.add(plan_of(model, batch, 513), {Precision::bf16, Precision::fp32});
    };
    // What tf32 may do includes what fp32 may.
    for (const char* backbone : {"resnet18", "resnet50", "resnet101"}) {
        for (const int stride : {16, 8}) add(backbone, stride, 16);
    }
    for (const std::int64_t batch : {2, 15, 31, 32}) add("resnet101", 16, batch);
    return problems;
}

bool check(const ConvolutionProblem& problem, const cuda::Target& target,
           const cuda::CudnnHandle* handle) {
    cuda::CudnnEngines engines(problem, target, handle);
    const cuda::SearchResult result = cuda::search(engines, {}, cuda::Trial::build);
    std::cout << key(problem) << " | " << result.candidates << " | ";
    if (result.chosen) {
        const cuda::Attempt& first = result.attempts[*result.chosen];
        std::cout << first.candidate.choice.engine << " | "
                  << human_bytes(static_cast<std::uint64_t>(first.workspace)) << " | "
                  << first.candidate.notes << '\n';
    } else {
        std::cout << "NO PLAN: " << cuda::no_engine(engines.key(), {}, result) << '\n';
    }
    return result.chosen.has_value();
}

int run(const std::string& properties, const std::filesystem::path& configs) {
    std::unique_ptr<cuda::CudnnHandle> handle;
    std::string json;
    if (properties == "current") {
        json = cuda::device_properties_json(0);
        handle = std::make_unique<cuda::CudnnHandle>(nullptr);
    } else {
        json = read_text(properties);
    }
    const cuda::Target target = handle ? cuda::Target(*handle)
                                       : cuda::Target::described(json, properties);
    testing::hold_runtime_compiler();
    const auto begin = std::chrono::steady_clock::now();
    const Problems problems = problems_of(configs);
    std::cout << trim(json)
              << "\nconvolution pass | engine configurations | first engine | "
                 "workspace | notes\n";
    std::size_t missing = 0;
    for (const ConvolutionProblem& problem : problems.list)
        missing += check(problem, target, handle.get()) ? 0 : 1;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::cout << problems.list.size() << " distinct convolution passes, " << missing
              << " without a plan, cuDNN " << cudnnGetVersion() << ", " << target.device() << ", "
              << fixed(seconds.count(), 1) << " s\n";
    return missing == 0 && !problems.list.empty() ? 0 : 1;
}

// How long the engine plan of an engine takes that is compiled then.
std::string compiled_plan(const cuda::Target& target) {
    ConvolutionProblem p;
    p.geometry = {1, 1, 1, 1};
    p.x = p.y = {16, 256, 33, 33};
    p.w = {256, 256, 3, 3};
    p.x_pitch = p.y_pitch = 256;
    p.in = p.out = DType::bf16;
    const cuda::ConvolutionGraph graph(p, target);
    std::string failure;
    for (const cuda::EngineConfig& config : graph.configs(true)) {
        if (!config.runtime_compiled()) continue;
        const auto begin = std::chrono::steady_clock::now();
        try {
            if (!graph.engine_plan(config.choice)) continue;
        } catch (const DeviceError& error) {  // it would be left out; the machine is fine
            failure = cat(" (engine ", config.choice.engine, ": ", error.what(), ")");
            continue;
        }
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        return cat("engine ", config.choice.engine, " compiled in ", fixed(seconds.count(), 2),
                   " s");
    }
    return cat("no engine is compiled at run time", failure);
}

int show_current() {
    const cuda::Availability found = cuda::availability();
    if (found.devices == 0) {
        std::cerr << found.reason << '\n';
        return 4;
    }
    const cuda::CudnnHandle handle(nullptr);
    const cuda::Target target(handle);
    std::cout << trim(cuda::device_properties_json(0)) << '\n' << std::flush;
    int driver = 0, runtime = 0;
    std::size_t free = 0, total = 0;
    cuda::check(cudaDriverGetVersion(&driver), "the driver's version");
    cuda::check(cudaRuntimeGetVersion(&runtime), "the runtime's version");
    cuda::check(cudaMemGetInfo(&free, &total), "the device's free memory");
    std::cerr << found.devices << " x " << target.device() << ", " << human_bytes(free) << " of "
              << human_bytes(total) << " free, CUDA driver " << driver << ", runtime " << runtime
              << ", cuDNN " << cudnnGetVersion() << ", " << compiled_plan(target) << '\n';
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const bool current = argc > 1 && std::string(argv[1]) == "current";
    if (argc != 3 && !(argc == 2 && current)) {
        std::cerr << "usage: deeplab-plan-check PROPERTIES.json|current CONFIGS\n"
                     "       deeplab-plan-check current\n";
        return 2;
    }
    try {
        return argc == 2 ? show_current() : run(argv[1], argv[2]);
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
