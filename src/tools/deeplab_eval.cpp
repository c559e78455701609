// deeplab-eval: metrics of trained weights on a packed split.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/status_line.h"
#include "deeplab/base/text.h"
#include "deeplab/evaluate/evaluator.h"
#include "deeplab/io/value.h"
#include "deeplab/train/rank_agreement.h"
#include "deeplab/weights/class_names.h"
#include "support_inference.h"
#include "support_saved_logits.h"

namespace {

using namespace deeplab;
struct Arguments {
    std::string weights, data, split = "val", json, protocol = "full", stride, masks, logits,
                               device = "auto", precision = "fp32", ids = "classes";
    std::vector<double> scales = {1.0};
    bool flip = false, force = false;
    std::int64_t threads = 0;
};

CommandLine::Use value(const std::string& name, bool required = false) {
    return {required, {}, name};
}
CommandLine::Use one_of(const std::vector<std::string>& choices) { return {false, choices, ""}; }

bool parse(int argc, char** argv, Arguments& a) {
    CommandLine line(
        "deeplab-eval",
        "Evaluates weights on a packed split: pixel accuracy, mIoU, IoU of every class.",
        "deeplab-eval --weights RUN --data DATA --split val --json val.json\n"
        "mpirun -np 2 --bind-to none deeplab-eval --weights RUN --data DATA --scales 0.5,1,1.5 "
        "--flip");
    line.option("--weights", a.weights, "a checkpoint, a run's folder (its best), or safetensors",
                value("WEIGHTS", true));
    line.option("--data", a.data, "folder of shards, written by deeplab-pack", value("DIR", true));
    line.option("--split", a.split, "which split of it", value("NAME"));
    line.option("--json", a.json, "write metrics and confusion matrix there", value("FILE"));
    line.option("--protocol", a.protocol,
                "full: whole images at their own size (VOC's); centre-crop: short side to 513, "
                "central 513 x 513, whatever data.crop was",
                one_of({"full", "centre-crop"}));
    line.numbers(
        "--scales", a.scales,
        "average the scores over the image at these scales, e.g. 0.5,0.75,1,1.25,1.5,1.75");
    line.flag("--flip", a.flip, "average over the mirrored image as well");
    line.option("--output-stride", a.stride, "of the network; by default as trained",
                one_of({"8", "16"}));
    line.option("--save-masks", a.masks,
                "write predictions as palette PNG of the original size, as VOC's server takes them",
                value("DIR"));
    line.option("--ids", a.ids,
                "in the masks of --save-masks. classes: numbers of classes from 0; original: the "
                "labels that the data set's own masks have, as a gray PNG",
                one_of({"classes", "original"}));
    line.flag("--force", a.force, "replace masks that are there already (--save-masks)");
    line.option("--save-logits", a.logits,
                "write what the network put out for each image (.npy, before any resize) and "
                "logits.json, which says what was done: enough to redo the evaluation elsewhere",
                value("DIR"));
    line.option("--device", a.device, "where to run", one_of({"auto", "cpu", "cuda"}));
    line.option("--precision", a.precision, "of the network's arithmetic", one_of({"fp32"}));
    line.option(
        "--threads", a.threads,
        "threads of each rank; 0: the processors of its affinity mask, shared by the host's ranks");
    return line.parse(argc, argv);
}

void check(const Arguments& a, const comm::Communicator& world) {
    if (!a.masks.empty() && a.protocol != "full") {
        throw UsageError(
            "--save-masks does not go with --protocol centre-crop — masks of the original size "
            "need predictions of "
            "the whole image — use --protocol full");
    }
    if (a.masks.empty() && a.ids != "classes") {
        throw UsageError(
            "--ids original without --save-masks — it says what the saved masks hold — add "
            "--save-masks DIR, or leave it out");
    }
    if (std::filesystem::is_directory(a.json)) {
        throw UsageError(
            cat("--json ", a.json, " is a folder — the result is one file — name a file in it"));
    }
    if (world.rank() != 0) return;
    // Before hours of work, not after.
    if (!a.masks.empty()) require_writable_directory(a.masks);
    if (!a.logits.empty()) {
        require_writable_directory(a.logits);
        tools::SavedLogits::clear(a.logits);
    }
    if (!a.json.empty())
        require_writable_directory(std::filesystem::absolute(a.json).parent_path());
}

// The metrics must not take the place of what they are about.
void check_json(const Arguments& a, const data::Manifest& manifest) {
    std::error_code ignored;
    const std::filesystem::path data = a.data;
    for (const std::filesystem::path& input :
         {data / (manifest.split + ".json"), std::filesystem::path(a.weights)})
        if (!a.json.empty() && std::filesystem::equivalent(a.json, input, ignored))
            throw UsageError(cat("--json ", a.json,
                                 " is an input — the metrics would overwrite it — name another "
                                 "file"));
}

std::string list_of(const std::vector<double>& numbers) {
    std::string text;
    for (const double n : numbers) text += cat(text.empty() ? "" : ",", n);
    return text;
}

// A name that stands elsewhere makes the table false; another name for a class may be the same.
void check_classes(const data::ClassTable& network, const data::Manifest& data,
                   const std::string& weights) {
    const weights::ClassDifference differs = weights::compare_classes(network, data.classes);
    if (!differs) return;
    if (differs.moved) {
        throw UsageError(cat(differs.text, " (", weights, ", split ", data.split,
                             ") — a class would be judged as another class — give weights that "
                             "were trained on these classes, or pack the split with the classes in "
                             "the weights' order"));
    }
    if (log::rank() == 0)
        log::warn(cat(differs.text, "; they are taken for the same, by their places"));
}

// All ranks evaluate their share of one evaluation.
void compare_ranks(const Arguments& a, comm::Communicator& world) {
    const std::string remedy = "start every rank with the same options";
    train::require_same(world,
                        {train::program_fact(),
                         {"--split", a.split, remedy},
                         {"--protocol", a.protocol, remedy},
                         {"--scales", list_of(a.scales), remedy},
                         {"--flip", a.flip ? "given" : "not given", remedy},
                         {"--output-stride", a.stride.empty() ? "not given" : a.stride, remedy},
                         {"--save-masks", a.masks.empty() ? "not given" : "given", remedy},
                         {"--ids", a.ids, remedy},
                         {"--save-logits", a.logits.empty() ? "not given" : "given", remedy}},
                        ExitCode::usage);
}

std::string percent(double v) { return std::isnan(v) ? "n/a" : fixed(100 * v, 2); }

void print_table(const Arguments& a, const tools::Network& network, const data::Manifest& manifest,
                 const evaluate::Metrics& m) {
    std::size_t width = 24;
    for (const auto& c : manifest.classes.classes) width = std::max(width, c.name.size() + 2);
    const auto line = [&](const std::string& what, double v) {
        std::cout << "  " << left_aligned(what, width) << right_aligned(percent(v), 8) << '\n';
    };
    std::cout << "split " << manifest.split << ", " << manifest.records
              << (manifest.records == 1 ? " image" : " images") << ", protocol " << a.protocol
              << (a.protocol == "full" ? " (whole images at their own size)"
                                       : " (short side to 513, central 513 x 513)")
              << "\nweights " << network.file.string() << ", step " << network.info.step << ", "
              << network.info.model.backbone << ", output stride "
              << network.info.model.output_stride << ", scales " << list_of(a.scales)
              << (a.flip ? ", flip" : ", no flip") << "\n\n  " << left_aligned("class", width)
              << right_aligned("IoU %", 8) << '\n';
    for (std::size_t i = 0; i < m.class_iou.size(); ++i)
        line(manifest.classes.classes[i].name, m.class_iou[i]);
    std::cout << '\n';
    line("pixel accuracy", m.pixel_accuracy);
    line("mean pixel accuracy", m.mean_pixel_accuracy);
    line("mean IoU", m.miou);
    line("frequency-weighted IoU", m.fwiou);
    std::cout << std::flush;
}

// What was evaluated, and how.
io::Object description(const Arguments& a, const tools::Network& network,
                       const data::Manifest& manifest) {
    io::Array scales;
    for (const double s : a.scales) scales.emplace_back(s);
    io::Object out;
    out["split"] = manifest.split;
    out["protocol"] = a.protocol;
    out["images"] = manifest.records;
    out["scales"] = std::move(scales);
    out["flip"] = a.flip;
    out["output_stride"] = network.info.model.output_stride;
    return out;
}

// Values that are not defined (a class in neither truth nor prediction) become null.
std::string json_of(const Arguments& a, const tools::Network& network,
                    const data::Manifest& manifest, const evaluate::Confusion& confusion) {
    const evaluate::Metrics m = confusion.metrics();
    const auto classes = static_cast<std::size_t>(confusion.classes());
    io::Object class_iou;
    io::Array matrix;
    for (std::size_t i = 0; i < classes; ++i) {
        class_iou[manifest.classes.classes[i].name] = m.class_iou[i];
        io::Array row;
        for (std::size_t j = 0; j < classes; ++j)
            row.emplace_back(confusion.counts()[i * classes + j]);
        matrix.emplace_back(std::move(row));
    }
    io::Object out = description(a, network, manifest);
    out["pixel_accuracy"] = m.pixel_accuracy;
    out["mean_pixel_accuracy"] = m.mean_pixel_accuracy;
    out["miou"] = m.miou;
    out["fwiou"] = m.fwiou;
    out["class_iou"] = std::move(class_iou);
    out["confusion"] = std::move(matrix);  // [truth][predicted], pixels
    out["backbone"] = network.info.model.backbone;
    out["weights"] = a.weights;
    out["weights_step"] = network.info.step;
    return io::to_json(out, 2) + "\n";
}

// One line on a terminal, by rank 0; its share of the images stands for all.
class Progress {
public:
    Progress(std::int64_t images, const comm::Communicator& world)
        : images_(images), size_(world.size()), status_(world.rank() == 0) {}
    ~Progress() { status_.clear(); }
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void one() {
        done_ = std::min(images_, done_ + size_);
        if (!status_.visible()) return;
        const double seconds = seconds_since(start_);
        const double speed = static_cast<double>(done_) / std::max(seconds, 1e-9);
        status_.write(cat(done_, "/", images_, " images  ", fixed(speed, 1), " images/s  ETA ",
                          human_seconds(static_cast<double>(images_ - done_) / speed)));
    }

private:
    std::int64_t images_, size_, done_ = 0;
    StatusLine status_;
    Clock::time_point start_ = Clock::now();
};

// Where the mask of a record goes. Ids are file names; a '/' in one must not lead out of the
// folder.
std::filesystem::path mask_path(const Arguments& a, std::string id) {
    std::replace(id.begin(), id.end(), '/', '_');
    return std::filesystem::path(a.masks) / (id + ".png");
}

// No mask may take the place of another one or, without --force, of any file.
void check_masks(const Arguments& a, data::ShardSet& shards) {
    std::map<std::filesystem::path, std::string> taken;
    for (const std::string& id : shards.ids()) {
        const std::filesystem::path path = mask_path(a, id);
        const auto [other, fresh] = taken.emplace(path, id);
        if (!fresh)
            throw UsageError(cat("the masks of ", other->second, " and ", id, " would both become ",
                                 path.string(),
                                 " — one would overwrite the other — rename an id and pack again"));
        if (!a.force) tools::refuse_existing(path);
    }
}

int run(const Arguments& a, comm::Communicator& world) {
    compare_ranks(a, world);
    check(a, world);
    data::ShardSet shards(a.data, a.split);
    const data::Manifest& manifest = shards.manifest();
    if (manifest.records == 0) {
        throw DataError(cat("split ", a.split, " of ", a.data,
                            " is empty — there is nothing to measure — pack it again"));
    }
    train::require_same_data(world, {&manifest});
    check_json(a, manifest);
    if (!a.masks.empty()) check_masks(a, shards);
    const tools::Network network = tools::load_network(
        a.weights, a.stride.empty() ? 0 : std::stoi(a.stride), a.device, a.threads, world);
    check_classes(network.info.classes, manifest, network.file.string());
    log::info(cat("deeplab-eval on ", world.size(), world.size() == 1 ? " rank, " : " ranks, ",
                  network.backend->description()));

    tools::SavedLogits saved(a.logits);
    evaluate::InferenceOptions inference{
        .scales = a.scales, .flip = a.flip, .normalisation = network.info.normalisation()};
    if (!a.logits.empty())
        inference.on_pass = [&saved](const evaluate::Pass& pass) { saved.add(pass); };
    evaluate::Predictor predictor(*network.backend, network.info.model, inference);
    world.barrier("folders of results");  // rank 0 has made them
    const tools::MaskEncoder encode(manifest.classes, a.ids == "original",
                                    cat("split ", manifest.split));
    evaluate::EvaluationOptions options;
    options.protocol = a.protocol == "full" ? evaluate::Protocol::full
                                            : evaluate::Protocol::centre_crop;
    const Clock::time_point start = Clock::now();
    const auto confusion = [&] {
        Progress progress(manifest.records, world);
        options.on_image = [&](std::int64_t index, const data::Record& record,
                               const io::Image& image, const io::Mask& truth,
                               const io::Mask& predicted) {
            if (!a.logits.empty()) saved.finish_image(index, record, image, truth);
            if (!a.masks.empty()) {
                tools::write_atomically(mask_path(a, record.id), encode(predicted));
            }
            progress.one();
        };
        return evaluate::evaluate_split(predictor, shards, options, world);
    }();
    const double seconds = seconds_since(start);
    log::info(cat(manifest.records, manifest.records == 1 ? " image in " : " images in ",
                  fixed(seconds, 2), " s"));
    if (!a.logits.empty())
        saved.write_manifest(world, network.info, description(a, network, manifest));
    if (world.rank() != 0) return 0;
    print_table(a, network, manifest, confusion.metrics());
    if (!a.json.empty())
        write_atomically(std::filesystem::path(a.json), json_of(a, network, manifest, confusion));
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    return comm::run_guarded(session, [&] {
        Arguments arguments;
        return parse(argc, argv, arguments) ? run(arguments, session.world()) : 0;
    });
}
