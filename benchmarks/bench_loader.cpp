#include "bench_loader.h"

#include <chrono>
#include <memory>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/data/loader.h"

namespace deeplab::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
    std::string data, split = "train_aug", cache = "none";
    std::int64_t crop = 513, workers = 2, batch = 8;
    double seconds = 5;
};

// Whole batches during `seconds`, after one that opens the files.
double images_per_s(const Options& o, int workers) {
    data::LoaderOptions options;
    options.dir = o.data;
    options.split = o.split;
    options.augmentation.crop = o.crop;
    options.global_batch = o.batch;
    options.last_step = std::int64_t{1} << 40;
    options.workers = workers;
    options.cache_host = o.cache == "host";
    data::Loader loader(options);
    loader.recycle(loader.next());
    const Clock::time_point begin = Clock::now();
    std::int64_t images = 0;
    double seconds = 0;
    while (seconds < o.seconds) {
        loader.recycle(loader.next());
        images += o.batch;
        seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    }
    return static_cast<double>(images) / seconds;
}

Report measure(const Options& o) {
    if (o.crop < 1 || o.workers < 1 || o.batch < 1 || o.seconds <= 0) {
        throw UsageError(
            "--crop, --workers, --batch and --seconds must be positive — there would be nothing to "
            "measure — correct the command line");
    }
    Report report;
    report.title = cat("Loader, split ", o.split, ", crop ", o.crop, ", cache ", o.cache);
    report.columns = {"workers", "images_per_s"};
    for (const std::int64_t workers : {std::int64_t{1}, o.workers}) {
        report.rows.push_back({workers, images_per_s(o, static_cast<int>(workers))});
        if (o.workers == 1) break;
    }
    return report;
}

}  // namespace

Bench loader(CommandLine& program) {
    const auto o = std::make_shared<Options>();
    CommandLine& line = program.command(
        "loader", "Images per second of the data loader with the reference's augmentation");
    line.option("--data", o->data, "folder of shards, written by deeplab-pack", {true, {}, "DIR"});
    line.option("--split", o->split, "which split of it", {false, {}, "NAME"});
    line.option("--crop", o->crop, "side of the crop");
    line.option("--workers", o->workers, "decode-and-augment threads; one is measured as well");
    line.option("--batch", o->batch, "images of a batch");
    line.option("--seconds", o->seconds, "how long each configuration is measured");
    line.option("--cache", o->cache, "what the loader keeps", {false, {"none", "host"}, ""});
    return {&line, [o](comm::Communicator&) { return measure(*o); }};
}

}  // namespace deeplab::bench
