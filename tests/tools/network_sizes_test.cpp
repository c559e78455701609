// What deeplab-train --dry-run says of the networks whose sizes others have published.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "deeplab/io/value.h"
#include "tiny_training.h"

namespace deeplab {
namespace {

struct Network {
    std::string backbone, output_stride;
    std::int64_t parameters;
    double gmac;  // at 513, forward
};

class NetworkSizes : public testing::TinyTraining {};

// Of 21 classes and with a separable head. (The paper has 54.17 and 177.10 of Xception-65.)
TEST_F(NetworkSizes, AreThePublishedOnes) {
    prepare("");
    testing::write_tiny_dataset(dir_ / "voc",
                                {.split = "train", .images = 2, .classes = 21, .shards = 1});
    for (const Network& n : std::vector<Network>{{"mobilenet_v2", "16", 2'719'813, 5.80},
                                                 {"mobilenet_v2", "8", 2'719'813, 13.29},
                                                 {"xception65", "16", 41'055'413, 54.03},
                                                 {"xception65", "8", 41'055'413, 176.85},
                                                 {"xception41", "16", 28'108'661, 40.01},
                                                 {"xception71", "16", 43'477'837, 66.07}}) {
        const auto result = testing::run_process(
            command({"--data", (dir_ / "voc").string(), "--dry-run", "--json", "--set",
                     "data.crop=513", "--set", "model.backbone=" + n.backbone, "--set",
                     "model.output_stride=" + n.output_stride, "--set", "model.dilation=layer",
                     "--set", "model.separable=true"}));
        ASSERT_EQ(result.exit_code, 0) << result.both();
        const io::Value json = io::parse_json(result.out, "needs");
        const auto* object = json.get_if<io::Object>();
        ASSERT_NE(object, nullptr);
        EXPECT_EQ(*object->find("parameters")->get_if<std::int64_t>(), n.parameters) << n.backbone;
        EXPECT_NEAR(*object->find("gmac_per_image")->get_if<double>(), n.gmac, 0.01)
            << n.backbone << " " << n.output_stride;
    }
}

// The lines that people and scripts look for.
TEST_F(NetworkSizes, StandInTheDryRunsText) {
    prepare("train.global_batch = 2\nmodel.separable = true\nmodel.dilation = \"layer\"\n");
    testing::write_tiny_dataset(dir_ / "voc",
                                {.split = "train", .images = 2, .classes = 21, .shards = 1});
    const auto result = testing::run_process(
        command({"--data", (dir_ / "voc").string(), "--dry-run", "--device", "cpu", "--set",
                 "model.backbone=mobilenet_v2"}));
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_NE(result.out.find("\nparameters 2719813\n"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("\nGMAC per image 0.0"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("network     mobilenet_v2, separable, output stride 16"),
              std::string::npos)
        << result.out;
}

// Height before width, from the option to the plan.
TEST_F(NetworkSizes, AreThoseOfOblongCrops) {
    prepare("train.global_batch = 2\n");
    const auto run = [&](const std::string& crop, const std::vector<std::string>& more) {
        std::vector<std::string> options = {"--dry-run", "--device", "cpu", "--set",
                                            "data.crop=" + crop};
        options.insert(options.end(), more.begin(), more.end());
        const auto result = testing::run_process(command(options));
        EXPECT_EQ(result.exit_code, 0) << result.both();
        return result.out;
    };
    const auto needs = [&](const std::string& crop) {
        return *io::parse_json(run(crop, {"--json"}), "needs").get_if<io::Object>();
    };
    const io::Object wide = needs("[33, 65]"), tall = needs("[65, 33]"), square = needs("65");
    EXPECT_EQ(io::to_json(*wide.find("crop")), "[33,65]");
    EXPECT_EQ(io::to_json(*square.find("crop")), "65");
    const io::Object same = needs("[65, 65]");
    for (const char* key : {"crop", "plan_hash"})
        EXPECT_EQ(io::to_json(*same.find(key)), io::to_json(*square.find(key))) << key;
    const auto number = [](const io::Object& object, const char* key) {
        return *object.find(key)->get_if<double>();
    };
    EXPECT_EQ(number(wide, "gmac_per_image"), number(tall, "gmac_per_image"));
    EXPECT_GT(number(wide, "gmac_per_image"), 0.4 * number(square, "gmac_per_image"));
    EXPECT_LT(number(wide, "gmac_per_image"), 0.7 * number(square, "gmac_per_image"));
    const auto memory = [](const io::Object& object) {
        return *object.find("memory_host_bytes")->get_if<std::int64_t>();
    };
    EXPECT_LT(memory(wide), memory(square));
    EXPECT_NE(io::to_json(*wide.find("plan_hash")), io::to_json(*tall.find("plan_hash")));

    EXPECT_NE(run("[65, 65]", {}).find(" classes, crop 65\n"), std::string::npos);
    const std::string text = run("[33, 65]", {});
    EXPECT_NE(text.find(" classes, crop 33 high, 65 wide\n"), std::string::npos) << text;
    EXPECT_NE(read_text(dir_ / "run/plan.txt").find(" 2x32x17x33"), std::string::npos)
        << "behind the first convolution";
}

}  // namespace
}  // namespace deeplab
