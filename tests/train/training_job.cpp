// deeplab-training-job KIND DATA RUN: a training run whose last rank loses its device on purpose,
// for training_job_test.cpp.
#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "deeplab/base/error.h"
#include "deeplab/train/run_training.h"
#include "harness/fake_backend.h"
#include "tiny_run.h"

using namespace deeplab;

namespace {

void hang() { std::this_thread::sleep_for(std::chrono::seconds(1000)); }

// A step that was enqueued waits for a rank that is gone: so does whoever destroys it.
class LostExecutable final : public exec::Executable {
public:
    explicit LostExecutable(std::unique_ptr<exec::Executable> fake) : fake_(std::move(fake)) {}
    ~LostExecutable() override { hang(); }
    void prefetch(const exec::MicroBatch& next) override { fake_->prefetch(next); }
    void start(const exec::MicroBatch& step) override { fake_->start(step); }
    exec::MicroBatchResult finish() override {
        if (++steps_ == 3) throw DeviceError("NCCL failed in gradients: a rank is gone");
        return fake_->finish();
    }
    std::vector<float> download(graph::TensorId id) override { return fake_->download(id); }
    const graph::MemoryPlan& memory() const override { return fake_->memory(); }

private:
    std::unique_ptr<exec::Executable> fake_;
    int steps_ = 0;
};

class LostBackend final : public exec::Backend {
public:
    explicit LostBackend(std::string kind) : kind_(std::move(kind)) {}
    std::string description() const override { return "fake"; }
    void allocate(const graph::Plan& plan) override { fake_.allocate(plan); }
    void upload(const graph::Parameter& p, exec::Slot slot, std::span<const float> d) override {
        fake_.upload(p, slot, d);
    }
    std::vector<float> download(const graph::Parameter& p, exec::Slot slot) override {
        return fake_.download(p, slot);
    }
    void upload(const graph::State& s, std::span<const float> d) override { fake_.upload(s, d); }
    std::vector<float> download(const graph::State& s) override { return fake_.download(s); }
    std::unique_ptr<exec::Executable> compile(const graph::Plan& plan,
                                              const exec::Communicators& communicators,
                                              const exec::CompileOptions& options) override {
        if (kind_ == "hangs-at-start") hang();
        auto executable = fake_.compile(plan, communicators, options);
        if (kind_ != "loses-a-rank") return executable;
        return std::make_unique<LostExecutable>(std::move(executable));
    }

private:
    testing::FakeBackend fake_;
    std::string kind_;
};

int body(comm::Communicator& world, const std::string& kind, const char* data, const char* run) {
    train::TrainOptions options = testing::tiny_run("", R"(
train = {iterations = 9, global_batch = 6}
checkpoint.every = 2
optimizer.lr = 0.01
)");
    options.config.train.watchdog_s = kind == "hangs-at-start" ? 3 : 60;
    options.data = data;
    options.run = run;
    options.ends_job = true;
    LostBackend backend(world.rank() == world.size() - 1 ? kind : "");
    return static_cast<int>(train::run_training(options, backend, world, world).code);
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    if (argc != 4) return 2;
    return comm::run_guarded(session,
                             [&] { return body(session.world(), argv[1], argv[2], argv[3]); });
}
