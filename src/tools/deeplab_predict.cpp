// deeplab-predict: segmentation of image files.

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/evaluate/evaluator.h"
#include "deeplab/train/rank_agreement.h"
#include "support_inference.h"

namespace {

using namespace deeplab;
namespace fs = std::filesystem;

struct Arguments {
    std::string weights, out, device = "auto", ids = "classes";
    std::vector<std::string> images;
    bool logits = false, force = false;
    std::int64_t threads = 0;
};

bool parse(int argc, char** argv, Arguments& a) {
    CommandLine line("deeplab-predict",
                     "Labels image files: NAME.png (class ids, palette) and NAME_overlay.jpg.",
                     "deeplab-predict --weights RUN photo.jpg --out predictions\n"
                     "deeplab-predict --weights RUN/checkpoints/best.h5 images/*.jpg --out "
                     "predictions --logits");
    line.option("--weights", a.weights, "a checkpoint, a run's folder (its best), or safetensors",
                {true, {}, "WEIGHTS"});
    line.positional(
        "IMAGE", a.images,
        "JPEG or PNG files of any size; turned as their EXIF orientation says, results too", true);
    line.option("--out", a.out, "folder for the results", {true, {}, "DIR"});
    line.flag("--logits", a.logits,
              "also write NAME_logits.npy (float32, classes x height x width)");
    line.option("--ids", a.ids,
                "classes: numbers of classes from 0, in the classes' colours; original: the labels "
                "of the masks that the network was trained on, as a gray PNG",
                {false, {"classes", "original"}, ""});
    line.flag("--force", a.force, "replace results that are there already");
    line.option("--device", a.device, "where to run", {false, {"auto", "cpu", "cuda"}, ""});
    line.option(
        "--threads", a.threads,
        "threads of each rank; 0: the processors of its affinity mask, shared by the host's ranks");
    return line.parse(argc, argv);
}

struct Outputs {
    fs::path mask, overlay, logits;
};

Outputs outputs_of(const Arguments& a, const std::string& image) {
    const std::string name = fs::path(image).stem().string();
    const fs::path out = a.out;
    return {out / (name + ".png"), out / (name + "_overlay.jpg"), out / (name + "_logits.npy")};
}

// No result may take the place of another one, of an input, or, without --force, of any file.
void check_names(const Arguments& a) {
    std::map<fs::path, std::string> taken;  // path -> what stands there
    for (const std::string& image : a.images) taken.emplace(fs::weakly_canonical(image), "");
    std::map<std::string, std::string> names;
    for (const std::string& image : a.images) {
        const std::string name = fs::path(image).stem().string();
        const auto [other, fresh] = names.emplace(name, image);
        if (!fresh) {
            throw UsageError(cat(other->second, " and ", image, " would both become ", name,
                                 ".png — one result would overwrite the "
                                 "other — run them apart, with different --out"));
        }
        const Outputs o = outputs_of(a, image);
        for (const fs::path& path : {o.mask, o.overlay, o.logits}) {
            if (taken.contains(fs::weakly_canonical(path))) {
                throw UsageError(cat(path.string(), " is an input — the result of ", image,
                                     " would overwrite it — give another --out"));
            }
        }
        for (const fs::path& path : {o.mask, o.overlay, o.logits})
            if ((a.logits || path != o.logits) && !a.force) tools::refuse_existing(path);
    }
}

// The class's colour over half the image, at full strength along the borders; black (background)
// leaves it as it is.
io::Image overlay(const io::Image& image, const io::Mask& mask,
                  const std::vector<io::Rgb>& palette) {
    io::Image out = image;
    const std::int64_t width = mask.width, height = mask.height;
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
            const std::int64_t at = y * width + x;
            const std::uint8_t label = mask.labels[static_cast<std::size_t>(at)];
            const io::Rgb color = palette[label];
            if (color == io::Rgb{}) continue;
            const auto differs = [&](std::int64_t nx, std::int64_t ny) {
                return nx >= 0 && ny >= 0 && nx < width && ny < height &&
                       mask.labels[static_cast<std::size_t>(ny * width + nx)] != label;
            };
            const bool border = differs(x - 1, y) || differs(x + 1, y) || differs(x, y - 1) ||
                                differs(x, y + 1);
            const int rgb[] = {color.r, color.g, color.b};
            for (std::int64_t c = 0; c < 3; ++c) {
                std::uint8_t& pixel = out.pixels[static_cast<std::size_t>(at * 3 + c)];
                pixel = static_cast<std::uint8_t>(border ? rgb[c] : (pixel + rgb[c]) / 2);
            }
        }
    }
    return out;
}

// The classes found, largest first, for the line that reports an image.
std::string summary(const io::Mask& mask, const data::ClassTable& table) {
    std::vector<std::pair<std::int64_t, std::size_t>> counts;
    for (std::size_t c = 0; c < table.classes.size(); ++c) {
        const auto n = std::count(mask.labels.begin(), mask.labels.end(),
                                  static_cast<std::uint8_t>(c));
        if (n > 0) counts.emplace_back(n, c);
    }
    std::stable_sort(counts.begin(), counts.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::string text;
    for (const auto& [n, c] : counts) {
        text += cat(
            text.empty() ? "" : ", ", table.classes[c].name, " ",
            fixed(100.0 * static_cast<double>(n) / static_cast<double>(mask.labels.size()), 1),
            "%");
    }
    return text;
}

void predict(const Arguments& a, const std::string& file, evaluate::Predictor& predictor,
             const data::ClassTable& table, const tools::MaskEncoder& encode) {
    if (!fs::is_regular_file(file)) {
        throw DataError(
            cat(fs::is_directory(file) ? "a folder is no image: " : "there is no image file ", file,
                " — it cannot be labelled — ",
                fs::is_directory(file) ? "name the files in it: DIR/*.jpg" : "check the path"));
    }
    int orientation = 1;
    const io::Image image = io::decode_image_upright(read_bytes(file), file, &orientation);
    const Outputs out = outputs_of(a, file);
    io::Mask mask;
    if (a.logits) {
        const std::vector<float> logits = predictor.logits(image);
        mask = evaluate::arg_max(logits, predictor.classes(), image.height, image.width);
        const std::int64_t shape[] = {predictor.classes(), image.height, image.width};
        tools::write_npy(out.logits, logits, shape);
    } else {
        mask = predictor.predict(image);
    }
    tools::write_atomically(out.overlay,
                            io::encode_jpeg(overlay(image, mask, table.palette()), 92));
    tools::write_atomically(out.mask, encode(mask));
    std::cout << out.mask.string() << "  " << image.width << "x" << image.height << "  "
              << summary(mask, table);
    if (orientation != 1) std::cout << "  (turned upright: EXIF orientation " << orientation << ")";
    std::cout << std::endl;
}

// Each rank labels its share of one list.
void compare_ranks(const Arguments& a, comm::Communicator& world) {
    std::string images;
    for (const std::string& file : a.images) images += file + '\n';
    const std::string list = hex64(fnv1a(images.data(), images.size()));
    train::require_same(world,
                        {train::program_fact(),
                         {"the hash of the list of images", list,
                          "give every rank the same images in the same order"},
                         {"--ids", a.ids, "start every rank with the same options"}},
                        ExitCode::usage);
}

int run(const Arguments& a, comm::Communicator& world) {
    check_names(a);
    compare_ranks(a, world);
    const tools::Network network = tools::load_network(a.weights, 0, a.device, a.threads, world);
    if (world.rank() == 0) require_writable_directory(a.out);
    world.barrier("folder of results");
    log::info(cat("deeplab-predict: ", network.file.string(), ", step ", network.info.step, ", ",
                  network.backend->description()));
    evaluate::Predictor predictor(*network.backend, network.info.model,
                                  {.normalisation = network.info.normalisation()});

    const tools::MaskEncoder encode(network.info.classes, a.ids == "original",
                                    network.file.string());

    // An unreadable image fails the program in the end, but does not keep the others from being
    // done.
    std::int64_t failed = 0;
    const auto images = static_cast<std::int64_t>(a.images.size());
    const auto start = Clock::now();
    for (std::int64_t i = world.rank(); i < images; i += world.size()) {
        const std::string& file = a.images[static_cast<std::size_t>(i)];
        try {
            predict(a, file, predictor, network.info.classes, encode);
        } catch (const DataError& error) {
            log::error(error.what());
            ++failed;
        } catch (const std::bad_alloc&) {
            log::error(cat("out of memory (", file,
                           ") — the image is too large for this machine — scale it down"));
            ++failed;
        }
    }
    world.all_reduce(&failed, 1, DType::i64, comm::ReduceOp::sum, "images that failed");
    const double passed = seconds_since(start);
    log::info(cat(images - failed, images - failed == 1 ? " image in " : " images in ",
                  fixed(passed, 2),
                  " s, files read and written, without the loading of the network"));
    if (failed == 0) return 0;
    if (world.rank() == 0) {
        log::error(
            cat(failed, " of ", images, images == 1 ? " image" : " images",
                " could not be labelled (named above) — ",
                failed == images ? "there is no result" : "the results of the others are complete",
                " — repair or leave them out"));
    }
    return static_cast<int>(ExitCode::data);
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    return comm::run_guarded(session, [&] {
        Arguments arguments;
        return parse(argc, argv, arguments) ? run(arguments, session.world()) : 0;
    });
}
