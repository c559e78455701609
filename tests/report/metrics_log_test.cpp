#include "deeplab/report/metrics_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "harness/temp_dir.h"

namespace deeplab::report {
namespace {

using deeplab::testing::TempDir;
namespace fs = std::filesystem;

io::Object train_line(std::int64_t step, double loss) {
    io::Object line;
    line["step"] = step;
    line["loss"] = loss;
    return line;
}

io::Object evaluation_line(std::int64_t step, double miou) {
    io::Object line;
    line["step"] = step;
    line["split"] = "val";
    line["miou"] = miou;
    return line;
}

TEST(Metrics, AfterAResumeThereAreNoLaterStepsAndNoDuplicates) {
    const TempDir dir;
    const fs::path file = dir / "metrics.jsonl";
    {
        MetricsLog log(file, 0);
        log.append(train_line(10, 1.5));
        log.append(train_line(20, 1.25));
        log.append(evaluation_line(20, 0.5));
        log.append(train_line(30, 1.0));
    }
    std::ofstream(file, std::ios::app) << "{\"step\": 40, \"lo";  // killed within the line
    {
        MetricsLog log(file, 20);
        EXPECT_EQ(log.miou(20), 0.5);
        EXPECT_FALSE(log.miou(30).has_value());
        log.append(train_line(30, 2.0));
    }
    EXPECT_EQ(split(trim(read_text(file)), '\n'),
              (std::vector<std::string>{
                  io::to_json(train_line(10, 1.5)), io::to_json(train_line(20, 1.25)),
                  io::to_json(evaluation_line(20, 0.5)), io::to_json(train_line(30, 2.0))}));
    { const MetricsLog log(file, 0); }
    EXPECT_EQ(read_text(file), "");
}

// A limit of the file's size stands for a full disk: both refuse a part of a line.
TEST(Metrics, LinesThatFoundNoRoomAreWrittenWhenThereIsSome) {
    const TempDir dir;
    const fs::path file = dir / "metrics.jsonl";
    MetricsLog log(file, 0);
    log.append(train_line(1, 1.5));
    const std::string first = read_text(file);
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit full{.rlim_cur = first.size() + 5, .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
    EXPECT_THROW(log.append(train_line(2, 1.25)), DeviceError);
    EXPECT_THROW(log.append(evaluation_line(2, 0.5)), DeviceError);
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, handler);
    EXPECT_EQ(read_text(file), first) << "no part of a line";
    EXPECT_EQ(log.miou(2), 0.5);
    log.flush();
    EXPECT_EQ(read_text(file), first + io::to_json(train_line(2, 1.25)) + "\n" +
                                   io::to_json(evaluation_line(2, 0.5)) + "\n");
}

}  // namespace
}  // namespace deeplab::report
