// Weights from and for PyTorch, through the programs: import, a training step, export, evaluation.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/tensor_file.h"
#include "deeplab/model/deeplab.h"
#include "deeplab/weights/weights.h"
#include "harness/process.h"
#include "harness/source_dir.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

const std::string fixtures = testing::source_dir() / "tests/golden/weights/";

// A ResNet-18 with torchvision's names and random values, as a user's ImageNet backbone.
void write_torchvision(const fs::path& file) {
    const model::ModelConfig config{.backbone = "resnet18", .num_classes = 4};
    const graph::Plan plan = model::inference_plan(config, 1, 33, 33);
    std::vector<std::vector<float>> values;
    std::vector<io::TensorToWrite> tensors;
    const auto add = [&](const std::string& name, const std::vector<std::int64_t>& extents,
                         std::vector<float> content) {
        values.push_back(std::move(content));
        tensors.push_back({name,
                           io::ElementType::f32,
                           extents,
                           {reinterpret_cast<const unsigned char*>(values.back().data()),
                            4 * values.back().size()}});
    };
    const std::string prefix = "backbone.";
    for (const auto& p : plan.parameters) {
        if (!p.name.starts_with(prefix)) continue;
        const bool vector = p.kind != graph::ParameterKind::conv_weight;
        add(p.name.substr(prefix.size()),
            vector ? std::vector<std::int64_t>{p.shape.c}
                   : std::vector<std::int64_t>{p.shape.n, p.shape.c, p.shape.h, p.shape.w},
            model::initial_value(p, plan, 77));
    }
    for (const auto& s : plan.states) {
        if (s.name.starts_with(prefix))
            add(s.name.substr(prefix.size()), {s.shape.c},
                std::vector<float>(static_cast<std::size_t>(s.shape.c), s.initial));
    }
    add("fc.bias", {1000}, std::vector<float>(1000, 1.0f));
    io::write_safetensors(file, tensors, {{"format", "pt"}});
}

// A network of initial values, as deeplab-train would leave it after seven steps.
weights::Snapshot some_network(int width_divisor) {
    weights::Snapshot snapshot;
    snapshot.info.model = {
        .backbone = "resnet18", .num_classes = 4, .width_divisor = width_divisor};
    for (int c = 0; c < 4; ++c) snapshot.info.classes.classes.push_back({cat("class", c), {}});
    snapshot.info.step = 7;
    const graph::Plan plan = model::inference_plan(snapshot.info.model, 1, 33, 33);
    for (const auto& p : plan.parameters) {
        snapshot.parameters[p.name] = model::initial_value(p, plan, 3);
        snapshot.extents[p.name] = {p.shape.c};
        if (p.kind == graph::ParameterKind::conv_weight)
            snapshot.extents[p.name] = {p.shape.n, p.shape.c, p.shape.h, p.shape.w};
    }
    for (const auto& s : plan.states) {
        snapshot.states[s.name].assign(static_cast<std::size_t>(s.shape.c), s.initial);
        snapshot.extents[s.name] = {s.shape.c};
    }
    return snapshot;
}

class WeightPrograms : public ::testing::Test {
protected:
    void SetUp() override {
        testing::write_tiny_dataset(dir_ / "data", {.split = "train", .images = 8});
        testing::write_tiny_dataset(dir_ / "data",
                                    {.split = "val", .images = 2, .shards = 1, .seed = 2});
        std::ofstream(dir_ / "config.toml")
            << "[model]\nbackbone = \"resnet18\"\n[data]\ntrain_split = \"train\"\nval_split = "
               "\"val\"\ncrop = 33\nresize = {mode = \"none\"}\n[train]\niterations = 1\n"
               "global_batch = 4\n[optimizer]\nlr = 0.01\n";
        for (const auto& [file, names] :
             {std::pair{"three.toml", "abc"}, {"four.toml", "abcd"}, {"five.toml", "abcde"}}) {
            std::string entries;
            for (const char* n = names; *n != 0; ++n) entries += cat("{name=\"", *n, "\"},");
            std::ofstream(dir_ / file) << "ignore = 255\nclass = [" << entries << "]\n";
        }
    }

    std::string path(const std::string& name) const { return (dir_ / name).string(); }
    static testing::ProcessResult run(const std::string& program, Strings arguments) {
        arguments.insert(arguments.begin(), testing::program(program));
        return testing::run_process(arguments);
    }
    testing::ProcessResult train(const std::string& out, const std::string& init) const {
        return run("deeplab-train",
                   {"--config", path("config.toml"), "--data", path("data"), "--out", path(out),
                    "--init", init, "--threads", "1", "--device", "cpu"});
    }
    static testing::ProcessResult weights(const Strings& arguments) {
        return run("deeplab-weights", arguments);
    }
    testing::ProcessResult evaluate(const std::string& of, const std::string& json) const {
        return run("deeplab-eval", {"--weights", of, "--data", path("data"), "--device", "cpu",
                                    "--threads", "1", "--json", json});
    }
    static void refused(const testing::ProcessResult& result, int code, const std::string& part) {
        EXPECT_EQ(result.exit_code, code) << result.both();
        EXPECT_NE(result.err.find(part), std::string::npos) << part << "\n" << result.both();
    }

    testing::TempDir dir_;
};

// info says the settings of other programs' networks, convert keeps them.
TEST_F(WeightPrograms, NetworksOfOthersAreToldAndConverted) {
    for (const auto& [name, settings] :
         {std::pair{"vainf",
                    "model.dilation = \"torchvision\", model.align_corners = false, "
                    "model.decoder_convs = 1"},
          {"jfzhang", "model.dilation = \"multigrid\""}}) {
        const std::string file = testing::source_dir() / "tests/golden/foreign" /
                                 (std::string(name) + ".pth"),
                          out = path(std::string(name) + ".safetensors");
        const auto info = weights({"info", file});
        ASSERT_EQ(info.exit_code, 0) << info.both();
        EXPECT_NE(info.out.find("network   resnet50, widths / 32, 3 classes"), std::string::npos)
            << info.out;
        EXPECT_NE(info.out.find(cat("settings  ", settings, "\n")), std::string::npos) << info.out;
        const auto converted = weights({"convert", file, out, "--classes", path("three.toml")});
        ASSERT_EQ(converted.exit_code, 0) << converted.both();
        EXPECT_NE(converted.out.find(cat("its network computes with ", settings, "\n")),
                  std::string::npos)
            << converted.out;
        const auto again = weights({"info", out});
        EXPECT_NE(again.out.find(cat("settings  ", settings, "\n")), std::string::npos)
            << again.out;
        const model::ModelConfig model = weights::WeightsFile(out).info()->model;
        EXPECT_EQ(model.align_corners, std::string(name) == "jfzhang");
        EXPECT_EQ(model.decoder_convs, std::string(name) == "jfzhang" ? 2 : 1);
    }
}

TEST_F(WeightPrograms, SlowABackboneIsImportedTrainedExportedAndGivesTheSameResults) {
    write_torchvision(path("imagenet.safetensors"));
    const auto trained = train("run", path("imagenet.safetensors"));
    ASSERT_EQ(trained.exit_code, 0) << trained.both();
    for (const char* part : {"names: torchvision's ResNet", "loaded       100 tensors",
                             "more         initial_weights.txt"}) {
        EXPECT_NE(trained.err.find(part), std::string::npos) << part << trained.both();
    }
    const std::string table = read_text(path("run/initial_weights.txt"));
    for (const char* part : {"loaded       backbone.layer4.1.bn2.running_var ",
                             "initialised  decoder.classifier.bias ", "ignored      -  ",
                             "the classifier of whole images"}) {
        EXPECT_NE(table.find(part), std::string::npos) << part << " in\n" << table;
    }
    // A training step has changed the backbone a little.
    const weights::WeightsFile before(path("imagenet.safetensors")), after(path("run"));
    const auto value = [](const weights::WeightsFile& file, const std::string& name) {
        for (std::size_t i = 0; i < file.tensors().size(); ++i) {
            if (file.tensors()[i].name == name) return file.values(i);
        }
        return std::vector<float>();
    };
    const auto first = value(before, "layer1.0.conv1.weight"),
               then = value(after, "backbone.layer1.0.conv1.weight");
    ASSERT_EQ(first.size(), then.size());
    double moved = 0;
    for (std::size_t i = 0; i < first.size(); ++i)
        moved = std::max(moved, std::abs(double{first[i]} - double{then[i]}));
    EXPECT_GT(moved, 0);
    EXPECT_LT(moved, 0.1);

    const auto result = weights({"convert", path("run"), path("out.safetensors")});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    const auto run_metrics = evaluate(path("run"), path("run.json")),
               out_metrics = evaluate(path("out.safetensors"), path("out.json"));
    ASSERT_EQ(run_metrics.exit_code, 0) << run_metrics.both();
    ASSERT_EQ(out_metrics.exit_code, 0) << out_metrics.both();
    const auto metrics = [](const std::string& file) {
        const std::string text = read_text(file);
        return text.substr(0, text.find("\"weights\""));  // what follows names the file
    };
    EXPECT_EQ(metrics(path("run.json")), metrics(path("out.json")));
    EXPECT_EQ(weights({"convert", path("out.safetensors"), path("copy.safetensors")}).exit_code, 0);
    EXPECT_EQ(read_bytes(path("copy.safetensors")), read_bytes(path("out.safetensors")));
}

TEST_F(WeightPrograms, PyTorchLoadsTheExportStrictlyAndItsFilesComeBackTheSame) {
    if (testing::run_process({"/usr/bin/python3", "-c", "import torch"}).exit_code != 0)
        GTEST_SKIP() << "skipped: no PyTorch";
    weights::save_checkpoint(path("tiny.h5"), some_network(8));
    ASSERT_EQ(weights({"convert", path("tiny.h5"), path("strict.safetensors")}).exit_code, 0);
    const auto python = testing::run_process({"/usr/bin/python3", fixtures + "check_export.py",
                                              path("strict.safetensors"), path("torch")});
    ASSERT_EQ(python.exit_code, 0) << python.both();
    EXPECT_NE(python.out.find("loaded strictly"), std::string::npos) << python.both();
    const auto first = io::load_tensor_file(path("strict.safetensors"));
    for (const char* name : {"torch.pth", "torch_stream.pth", "torch_parallel.pth"}) {
        const auto result = weights(
            {"convert", path(name), path("back.safetensors"), "--classes", path("four.toml")});
        ASSERT_EQ(result.exit_code, 0) << result.both();
        const auto back = io::load_tensor_file(path("back.safetensors"));
        ASSERT_EQ(back.tensors.size(), first.tensors.size()) << name;
        for (std::size_t i = 0; i < first.tensors.size(); ++i) {
            EXPECT_EQ(back.tensors[i].name, first.tensors[i].name);
            EXPECT_TRUE(std::ranges::equal(back.tensors[i].bytes, first.tensors[i].bytes))
                << name << " " << first.tensors[i].name;
        }
    }
}

TEST_F(WeightPrograms, OtherClassesNeedToBeAskedFor) {
    weights::save_weights(path("four.safetensors"), some_network(1), "");
    testing::write_tiny_dataset(dir_ / "three", {.split = "train", .images = 8, .classes = 3});
    const Strings three = {"--config", path("config.toml"),      "--data",    path("three"),
                           "--init",   path("four.safetensors"), "--device",  "cpu",
                           "--out",    path("threes"),           "--threads", "1"};
    refused(run("deeplab-train", three), 3, "--reset-classifier");
    EXPECT_FALSE(fs::exists(path("threes/checkpoints/latest.h5")));
    Strings reset = three;
    reset.insert(reset.end(), {"--reset-classifier", "--dry-run"});
    const auto result = run("deeplab-train", reset);
    EXPECT_EQ(result.exit_code, 0) << result.both();
    EXPECT_NE(result.err.find("(as asked for: He normal, fan in)"), std::string::npos);
    refused(run("deeplab-train", {"--config", path("config.toml"), "--data", path("three"), "--out",
                                  path("threes"), "--reset-classifier"}),
            2, "--init");
}

TEST_F(WeightPrograms, WhatDoesNotDescribeItselfIsNotRun) {
    const auto weights_of = [&](const std::string& file) {
        return evaluate(file, path("no.json"));
    };
    io::write_safetensors(path("bare.safetensors"), {}, {});
    refused(weights_of(fixtures + "reference.pth"), 3, "deeplab-weights convert");
    refused(weights_of(path("bare.safetensors")), 3, "deeplab-weights convert");
    refused(run("deeplab-predict", {"--weights", fixtures + "reference.pth", "--out", path("no"),
                                    path("config.toml")}),
            3, "deeplab-weights convert");
    ASSERT_EQ(weights({"convert", fixtures + "resnet18_torchvision.pth", path("bare.safetensors")})
                  .exit_code,
              0);
    refused(weights_of(path("bare.safetensors")), 3, "ASPP and decoder hold initial values");
    // With the classes' names it is.
    refused(weights({"convert", fixtures + "reference.pth", path("five.safetensors")}), 2,
            "--classes");
    ASSERT_EQ(weights({"convert", fixtures + "reference.pth", path("five.safetensors"), "--classes",
                       path("five.toml"), "--output-stride", "8"})
                  .exit_code,
              0);
    refused(weights_of(path("five.safetensors")), 2, "5 classes");
    EXPECT_FALSE(fs::exists(path("no.json")));
    EXPECT_EQ(weights::WeightsFile(path("five.safetensors")).info()->model.output_stride, 8);
}

TEST_F(WeightPrograms, InfoShowsWhatAFileHolds) {
    auto result = weights({"info", fixtures + "reference.pth"});
    EXPECT_EQ(result.exit_code, 0) << result.both();
    for (const char* part :
         {"PyTorch .pth (the older stream)", "resnet18, widths / 32, 5 classes",
          "module.decoder.conv4.weight ", "5x8x1x1", "I64", "total     176 tensors, "}) {
        EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
    }
    fs::create_directories(path("run/checkpoints"));
    weights::save_checkpoint(path("run/checkpoints/best.h5"), some_network(8));
    result = weights({"info", path("run")});
    EXPECT_EQ(result.exit_code, 0) << result.both();
    for (const char* part :
         {"a checkpoint of this program", "resnet18, widths / 8, 4 classes, output stride 16",
          "step 7", "decoder.classifier.bias"}) {
        EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
    }
}

TEST_F(WeightPrograms, BadFilesEndWith3AndWrongUseWith2) {
    const auto write = [&](const std::string& name, const std::string& bytes) {
        std::ofstream(path(name), std::ios::binary) << bytes;
        return path(name);
    };
    weights::save_weights(path("tiny.safetensors"), some_network(8), "");
    // torch.save({'w': os.system}) of Python, spelled out.
    const std::string evil = write(
        "evil.pth", std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15) +
                        "\x80\x02M\xe9\x03." +
                        std::string("\x80\x02}X\x0d\0\0\0little_endian\x88s.", 24) + "\x80\x02" +
                        "cposix\nsystem\n(U\x0a" + "touch evil" + "tR.");
    for (const char* command : {"info", "convert"}) {
        Strings arguments = {command, evil};
        if (std::string(command) == "convert") arguments.push_back(path("evil.safetensors"));
        refused(weights(arguments), 3, "the global posix.system is refused");
    }
    refused(train("evil", evil), 3, "the global posix.system is refused");
    refused(evaluate(evil, path("evil.json")), 3, "the global posix.system is refused");
    EXPECT_FALSE(fs::exists("evil"));
    EXPECT_FALSE(fs::exists(path("evil.safetensors")));
    const std::string whole = read_text(path("tiny.safetensors"));
    refused(train("cut", write("cut.safetensors", whole.substr(0, whole.size() - 1))), 3,
            "cut.safetensors");
    refused(weights({"info", path("absent")}), 3, "absent");
    refused(weights({"info", path("config.toml")}), 3, "not a weights file");
    refused(weights({}), 2, "needs a command");
    refused(weights({"inof", "x"}), 2, "deeplab-weights");
    refused(weights({"convert", evil}), 2, "IN and OUT");
    refused(weights({"convert", path("tiny.safetensors"), path("tiny.safetensors")}), 2,
            "the input");
    refused(weights({"convert", path("tiny.safetensors"), path("x.safetensors"), "--output-stride",
                     "8"}),
            2, "leave them out");
    EXPECT_EQ(read_text(path("tiny.safetensors")), whole);
    for (const char* command : {"info", "convert"})
        EXPECT_EQ(weights({command, "--help"}).exit_code, 0);
}

}  // namespace
}  // namespace deeplab
