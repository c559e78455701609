#include "deeplab/base/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "deeplab/base/version.h"
#include "harness/messages.h"

namespace deeplab {
namespace {

using ::testing::HasSubstr;
// A program with one option of every kind, and a command.
struct Program {
    std::string data, device = "auto", directory;
    std::int64_t shards = 4;
    double budget = 0;
    bool resume = false, deep = false;
    std::vector<std::string> sets, images, directories;
    std::vector<double> scales = {1};
    CommandLine line{"deeplab-example", "Shows all kinds of options.",
                     "deeplab-example --data D a.jpg\nmpirun -np 2 x"};
    CommandLine* verify = nullptr;

    Program() {
        line.option("--data", data, "Folder",
                    {.required = true, .choices = {}, .value_name = "DIR"});
        line.option("--device", device, "Where",
                    {.required = false, .choices = {"auto", "cpu", "cuda"}, .value_name = ""});
        line.option("--shards", shards, "Number");
        line.option("--budget", budget, "Minutes");
        line.flag("--resume", resume, "Go on");
        line.list("--set", sets, "key=value");
        line.numbers("--scales", scales, "Factors");
        line.positional("IMAGE", images, "Images", false);
        verify = &line.command("verify", "Checks");
        verify->positional("DIR", directories, "Folders", true);
        verify->flag("--deep", deep, "All of it");
    }

    bool parse(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), "deeplab-example");
        std::vector<char*> argv;
        for (std::string& argument : arguments) argv.push_back(argument.data());
        argv.push_back(nullptr);
        return line.parse(static_cast<int>(arguments.size()), argv.data());
    }

    std::string refusal(const std::vector<std::string>& arguments) {
        return testing::message_of<UsageError>([&] { parse(arguments); });
    }
};

TEST(CommandLine, ReadsEveryKind) {
    Program p;
    EXPECT_TRUE(p.parse({"--data", "D", "--device=cpu", "--shards", "16", "--budget", "1.5",
                         "--resume", "--set", "a.b=1", "x.jpg", "--set", "c=[1, 2]", "--scales",
                         "0.5,1,1.75", "y.jpg"}));
    EXPECT_EQ(p.data, "D");
    EXPECT_EQ(p.device, "cpu");
    EXPECT_EQ(p.shards, 16);
    EXPECT_EQ(p.budget, 1.5);
    EXPECT_TRUE(p.resume);
    EXPECT_EQ(p.sets, (std::vector<std::string>{"a.b=1", "c=[1, 2]"}));
    EXPECT_EQ(p.scales, (std::vector<double>{0.5, 1, 1.75}));
    EXPECT_EQ(p.images, (std::vector<std::string>{"x.jpg", "y.jpg"}));
    EXPECT_TRUE(p.line.given("--data"));
    EXPECT_FALSE(p.verify->chosen());
}

TEST(CommandLine, KeepsDefaults) {
    Program p;
    EXPECT_TRUE(p.parse({"--data", "D"}));
    EXPECT_EQ(p.device, "auto");
    EXPECT_EQ(p.shards, 4);
    EXPECT_EQ(p.scales, std::vector<double>{1});
    EXPECT_FALSE(p.line.given("--device"));
}

TEST(CommandLine, NamesTheNearestOption) {
    EXPECT_THAT(Program().refusal({"--data", "D", "--shard", "3"}),
                HasSubstr("did you mean --shards?"));
    EXPECT_THAT(Program().refusal({"--dta=D"}), HasSubstr("unknown option --dta "));
    EXPECT_THAT(Program().refusal({"--dta=D"}), HasSubstr("did you mean --data?"));
    EXPECT_THAT(Program().refusal({"--data", "D", "--entirely-else"}),
                HasSubstr("deeplab-example --help"));
    EXPECT_THAT(Program().refusal({"--data", "D", "--device", "cud"}),
                HasSubstr("did you mean cuda?"));
}

TEST(CommandLine, RefusesWhatIsMissingOrOfWrongType) {
    EXPECT_THAT(Program().refusal({}), HasSubstr("--data is missing"));
    EXPECT_THAT(Program().refusal({"--data"}), HasSubstr("--data"));
    EXPECT_THAT(Program().refusal({"--data", "D", "--shards", "many"}), HasSubstr("--shards"));
    EXPECT_THAT(Program().refusal({"--data", "D", "--shards", "1.5"}), HasSubstr("--shards"));
    EXPECT_THAT(Program().refusal({"--data", "D", "--scales", "1,x"}), HasSubstr("--scales"));
    EXPECT_THAT(Program().refusal({"--data", "D", "--data", "E"}), HasSubstr("--data"));
}

TEST(CommandLine, ACommandHasOptionsOfItsOwn) {
    Program p;
    EXPECT_TRUE(p.parse({"verify", "dir1", "--deep"}));
    EXPECT_TRUE(p.verify->chosen());
    EXPECT_TRUE(p.deep);
    EXPECT_EQ(p.directories, std::vector<std::string>{"dir1"});
    EXPECT_THAT(Program().refusal({"verify"}), HasSubstr("DIR is missing"));
    EXPECT_THAT(Program().refusal({"verify", "dir1", "--deepp"}),
                HasSubstr("did you mean --deep?"));
}

TEST(CommandLine, HelpHasEveryOptionAndTheExample) {
    Program p;
    ::testing::internal::CaptureStdout();
    EXPECT_FALSE(p.parse({"--help"}));
    const std::string help = ::testing::internal::GetCapturedStdout();
    for (const char* part : {"--data DIR", "auto|cpu|cuda", "--set", "verify", "Example:",
                             "  deeplab-example --data D a.jpg", "  mpirun -np 2 x", "--version"}) {
        EXPECT_THAT(help, HasSubstr(part)) << part << " is not in\n" << help;
    }
}

TEST(CommandLine, VersionSaysWhatThisBuildIs) {
    Program p;
    ::testing::internal::CaptureStdout();
    EXPECT_FALSE(p.parse({"--version"}));
    const std::string text = ::testing::internal::GetCapturedStdout();
    EXPECT_THAT(text, HasSubstr("deeplab-example " + version())) << text;
    for (const char* part : {"git: ", "compiler: ", "build type: ", "mpi "})
        EXPECT_THAT(text, HasSubstr(part)) << text;
}

}  // namespace
}  // namespace deeplab
