#include "bench_loader.h"

#include <algorithm>
#include <memory>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/data/loader.h"

namespace deeplab::bench {
namespace {
constexpr std::int64_t checked_batches = 16;

struct Options {
    std::string data, split = "train_aug", cache = "none";
    std::int64_t crop = 513, workers = 2, batch = 8, windows = 5;
    double seconds = 10;
};

// Of one configuration: medians over windows.
struct Figures {
    std::array<double, data::stage_count> stage_ms{};  // CPU time per image
    double cpu_ms = 0;                                 // of all stages
    double images_per_s = 0;                           // by the wall clock
    std::uint32_t crc = 0;                             // of the first samples
};

// The same for every number of workers, cache, encoding and machine. Also opens the files.
std::uint32_t checksum(data::Loader& loader, std::int64_t batches) {
    std::uint32_t crc = 0;
    for (std::int64_t b = 0; b < batches; ++b) {
        data::Batch batch = loader.next();
        const auto* floats = reinterpret_cast<const unsigned char*>(batch.images.data());
        crc = crc32({floats, batch.images.size() * sizeof(float)}, crc);
        crc = crc32(batch.labels, crc);
        loader.recycle(std::move(batch));
    }
    return crc;
}

Figures measure(const Options& o, std::int64_t workers) {
    data::LoaderOptions options;
    options.dir = o.data;
    options.split = o.split;
    options.augmentation.crop = o.crop;
    options.global_batch = o.batch;
    options.last_step = std::int64_t{1} << 40;
    options.workers = static_cast<int>(workers);
    options.cache_host = o.cache == "host";
    data::Loader loader(options);
    Figures out;
    out.crc = checksum(loader, checked_batches);
    if (options.cache_host) {  // what is measured is the second epoch and later
        for (std::int64_t i = 0; i < loader.manifest().records; i += o.batch)
            loader.recycle(loader.next());
    }
    std::array<std::vector<double>, data::stage_count> stage_ms;
    std::vector<double> cpu_ms, images_per_s;
    for (std::int64_t w = 0; w < o.windows; ++w) {
        const data::StageTimes before = loader.times();
        const Clock::time_point begin = Clock::now();
        std::int64_t images = 0;
        double seconds = 0;
        while (seconds < o.seconds / static_cast<double>(o.windows)) {
            loader.recycle(loader.next());
            images += o.batch;
            seconds = seconds_since(begin);
        }
        const data::StageTimes after = loader.times();
        images_per_s.push_back(static_cast<double>(images) / seconds);
        const auto samples = static_cast<double>(
            std::max<std::int64_t>(1, after.samples - before.samples));
        for (std::size_t s = 0; s < data::stage_count; ++s)
            stage_ms[s].push_back(1e3 * (after.cpu_s[s] - before.cpu_s[s]) / samples);
        cpu_ms.push_back(1e3 * (after.total_s() - before.total_s()) / samples);
    }
    for (std::size_t s = 0; s < data::stage_count; ++s) out.stage_ms[s] = median(stage_ms[s]);
    out.cpu_ms = median(cpu_ms);
    out.images_per_s = median(images_per_s);
    return out;
}

// "decode image" -> "decode_image"
std::string flat(std::string name) {
    std::replace(name.begin(), name.end(), ' ', '_');
    return name;
}

Report run(const Options& o) {
    if (o.crop < 1 || o.workers < 1 || o.batch < 1 || o.windows < 1 || !(o.seconds > 0)) {
        throw UsageError(
            "--crop, --workers, --batch, --windows and --seconds must be positive — there would be "
            "nothing to measure — correct the command line");
    }
    const std::string encoding = data::load_manifest(o.data, o.split).encoding ==
                                         data::Encoding::raw
                                     ? "raw"
                                     : "source";
    const Figures one = measure(o, 1), many = o.workers == 1 ? one : measure(o, o.workers);
    ensures(one.crc == many.crc, "the number of workers does not change the samples");
    Report report;
    report.title = cat("Loader: split ", o.split, ", encoding ", encoding, ", crop ", o.crop,
                       ", the reference's augmentation, cache ", o.cache);
    report.columns = {"stage", "cpu_ms_per_image_1_worker",
                      cat("cpu_ms_per_image_", o.workers, "_workers"), "share_1_worker"};
    for (std::size_t s = 0; s < data::stage_count; ++s) {
        const std::string name = data::name(static_cast<data::Stage>(s));
        report.rows.push_back(
            {name, one.stage_ms[s], many.stage_ms[s], one.stage_ms[s] / one.cpu_ms});
        report.summary[cat("loader_", flat(name), "_cpu_ms_per_image")] = one.stage_ms[s];
    }
    report.rows.push_back({"all", one.cpu_ms, many.cpu_ms, 1.0});
    report.summary["loader_cpu_ms_per_image"] = one.cpu_ms;
    report.summary["loader_images_per_s_per_core"] = 1e3 / one.cpu_ms;
    report.summary["loader_1_worker_images_per_s"] = one.images_per_s;
    if (o.workers != 1)
        report.summary[cat("loader_", o.workers, "_workers_images_per_s")] = many.images_per_s;
    report.settings["split"] = o.split;
    report.settings["encoding"] = encoding;
    report.settings["crop"] = o.crop;
    report.settings["batch"] = o.batch;
    report.settings["workers"] = o.workers;
    report.settings["cache"] = o.cache;
    report.settings["seconds"] = o.seconds;
    report.settings["windows"] = o.windows;
    report.settings["samples_crc32"] = static_cast<std::int64_t>(one.crc);
    report.notes = {
        cat("CRC-32 of the first ", checked_batches * o.batch, " samples: ", one.crc),
        cat("images/s of one core (1 / CPU time of all stages): ", fixed(1e3 / one.cpu_ms, 1)),
        cat("images/s by the wall clock: ", fixed(one.images_per_s, 1), " with 1 worker, ",
            fixed(many.images_per_s, 1), " with ", o.workers),
        cat("medians of ", o.windows, " windows of ",
            fixed(o.seconds / static_cast<double>(o.windows), 1),
            " s; CPU time is that of the thread that does the stage (reader or worker)")};
    return report;
}

}  // namespace

Bench loader(CommandLine& program) {
    const auto o = std::make_shared<Options>();
    CommandLine& line = program.command(
        "loader", "Time of every stage from shard to batch, with the reference's augmentation");
    line.option("--data", o->data, "folder of shards, written by deeplab-pack", {true, {}, "DIR"});
    line.option("--split", o->split, "which split of it", {false, {}, "NAME"});
    line.option("--crop", o->crop, "side of the crop");
    line.option("--workers", o->workers, "decode-and-augment threads; one is measured as well");
    line.option("--batch", o->batch, "images of a batch");
    line.option("--seconds", o->seconds, "how long each number of workers is measured");
    line.option("--windows", o->windows, "in so many parts: the medians are shown");
    line.option("--cache", o->cache, "what the loader keeps", {false, {"none", "host"}, ""});
    return {&line, [o](comm::Communicator&) { return run(*o); }};
}

}  // namespace deeplab::bench
