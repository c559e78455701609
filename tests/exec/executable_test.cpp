// What every backend refuses when a plan is compiled or a step begins, in the same words.

#include <functional>
#include <string>

#include "deeplab/base/error.h"
#include "harness/messages.h"
#include "ops/tiny_plan.h"

namespace deeplab::testing {
namespace {

// Dropout on a batch of three, and a loss on its first sample's classes.
struct Subject {
    TinyPlan t;
    TensorId dropped, unkept;
    std::unique_ptr<exec::Backend> backend = device(2);
    std::unique_ptr<comm::Communicator> gradients = comm::make_self(),
                                        batch_norm = comm::make_self();
    std::unique_ptr<exec::Executable> executable;

    Subject() {
        const Shape shape{3, 4, 2, 2};
        const TensorId in = t.input(reference::random_tensor(shape, 1)),
                       truth = t.label_input({3, 1, 3, 3}, std::vector<std::uint8_t>(27, 2));
        dropped = t.arena(shape);
        unkept = t.arena(shape, DType::f32, false);
        t.node(graph::Dropout{0.5f, 0}, {in}, {unkept});
        t.node(graph::DropoutGrad{0.5f, 0}, {unkept}, {dropped});
        t.node(graph::SegmentationLoss{}, {dropped, truth}, {t.result()});
        t.samples = {{0, 1}, {0, 2}, {0, 3}};
        t.set_up(*backend);
        executable = compile(t.plan);
    }
    std::unique_ptr<exec::Executable> compile(const graph::Plan& plan) const {
        return backend->compile(plan, {gradients.get(), batch_norm.get()}, {});
    }
};

void expect_part(const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST(Executables, CompileValidPlansOnly) {
    const Subject s;
    graph::Plan plan = s.t.plan;
    plan.tensors[static_cast<std::size_t>(s.dropped)].shape.h = 1;
    expect_part(message_of<LogicError>([&] { s.compile(plan); }), "the shape stays");
    plan = s.t.plan;
    std::swap(plan.nodes[0], plan.nodes[1]);
    expect_part(message_of<LogicError>([&] { s.compile(plan); }), "written before");
}

TEST(Executables, WantTwoCommunicators) {
    const Subject s;
    comm::Communicator *const a = s.gradients.get(), *const b = s.batch_norm.get();
    for (const exec::Communicators& wrong :
         {exec::Communicators{a, a}, {a, nullptr}, {nullptr, b}, {nullptr, nullptr}}) {
        expect_part(message_of<LogicError>([&] { s.backend->compile(s.t.plan, wrong, {}); }),
                    "two distinct communicators");
    }
}

TEST(Executables, WantThePlansSamples) {
    const Subject s;
    for (const std::size_t count : {std::size_t{0}, std::size_t{2}, std::size_t{4}}) {
        exec::MicroBatch step = s.t.step();
        const std::vector<math::SampleKey> samples(count);
        step.samples = samples;
        expect_part(message_of<LogicError>([&] { s.executable->run(step); }),
                    "a micro-batch of a plan with dropout has the plan's samples");
    }
    s.executable->run(s.t.step());
}

TEST(Executables, WantOneBatchForAllDropouts) {
    Subject s;
    const Shape other{2, 4, 2, 2};
    s.t.node(graph::Dropout{0.5f, 1}, {s.t.input(reference::random_tensor(other, 1))},
             {s.t.arena(other)});
    expect_part(message_of<LogicError>([&] { s.compile(s.t.plan); }),
                "all dropouts of a plan have its batch");
}

TEST(Executables, WantThePlansImagesAndLabels) {
    const Subject s;
    exec::MicroBatch step = s.t.step();
    step.images = step.images.first(7);
    expect_part(message_of<LogicError>([&] { s.executable->run(step); }), "the plan's images");
    step = s.t.step();
    step.labels = step.labels.first(26);
    expect_part(message_of<LogicError>([&] { s.executable->run(step); }), "the plan's labels");
}

TEST(Executables, NameTheSampleOfALabelThatIsNoClass) {
    const Subject s;
    std::vector<std::uint8_t> labels = s.t.labels;
    exec::MicroBatch step = s.t.step();
    step.labels = labels;
    labels[4] = 255;  // ignored
    s.executable->run(step);
    labels[20] = 4;
    expect_part(message_of<DataError>([&] { s.executable->run(step); }),
                "label 4 in sample 2 of the batch, of 4 classes and ignore label 255 — ");
}

// Labels that no loss reads may be anything.
TEST(Executables, TakeAnyLabelsWithoutALoss) {
    TinyPlan t;
    t.label_input({1, 1, 2, 2}, {0, 7, 200, 255});
    const Shape shape{1, 2, 2, 2};
    const reference::Tensor x = reference::random_tensor(shape, 1);
    const TensorId y = t.arena(shape);
    t.node(graph::Upsample{}, {t.input(x)}, {y});
    EXPECT_EQ(Ran(t)[y], floats(x.data));
}

TEST(Executables, DownloadWhatIsThereAlone) {
    const Subject s;
    s.executable->run(s.t.step());
    EXPECT_EQ(s.executable->download(s.dropped).size(), 48u);
    expect_part(message_of<LogicError>([&] { s.executable->download(s.unkept); }), "a kept tensor");
    const auto count = static_cast<TensorId>(s.t.plan.tensors.size());
    for (const TensorId id : {graph::none, count})
        expect_part(message_of<LogicError>([&] { s.executable->download(id); }),
                    "belongs to the plan");
}

TEST(Executables, CompilePlansOfTheAllocatedParametersOnly) {
    Subject s;
    s.t.parameter(reference::random_tensor({2, 2, 1, 1}, 1));
    expect_part(message_of<LogicError>([&] { s.compile(s.t.plan); }),
                "the parameters it allocated");
}

}  // namespace
}  // namespace deeplab::testing
