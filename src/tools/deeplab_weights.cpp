// deeplab-weights: what is in a weights file, and weights for PyTorch.

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/config/model_fields.h"
#include "deeplab/io/value.h"
#include "deeplab/weights/weights.h"

namespace {

using namespace deeplab;
namespace fs = std::filesystem;

struct Arguments {
    std::vector<std::string> info, convert;
    std::string stride, classes;
};

std::string shape_text(const std::vector<std::int64_t>& extents) {
    std::string text;
    for (const std::int64_t e : extents) text += cat(text.empty() ? "" : "x", e);
    return text.empty() ? "scalar" : text;
}

std::string network_text(const weights::WeightsInfo& info) {
    const auto& m = info.model;
    std::string text = m.backbone;
    if (m.separable) text += ", separable";
    if (m.width_divisor != 1) text += cat(", widths / ", m.width_divisor);
    return text + (m.num_classes > 0 ? cat(", ", m.num_classes, " classes") : ", no classifier");
}

// What the tensors mean only together with.
void print_switches(const model::ModelConfig& model) {
    const std::string text = config::switches(model).text;
    if (!text.empty()) std::cout << "settings  " << text << "\n";
}

// "a, b, …" of a file that describes itself; what can be told from shapes otherwise.
void print_network(const weights::WeightsFile& file) {
    if (const auto& info = file.info()) {
        const auto n = info->normalisation();
        std::cout << "network   " << network_text(*info) << ", output stride "
                  << info->model.output_stride << ", step " << info->step << "\nmean, std "
                  << n.mean[0] << " " << n.mean[1] << " " << n.mean[2] << ", " << n.std[0] << " "
                  << n.std[1] << " " << n.std[2] << "\nclasses  ";
        for (const auto& c : info->classes.classes) std::cout << " " << c.name;
        std::cout << "\n";
        if (!file.untrained().empty()) std::cout << "untrained " << file.untrained() << "\n";
        print_switches(info->model);
        return;
    }
    if (!file.taken().empty()) std::cout << "taken     " << file.taken() << "\n";
    for (const std::string& key : file.beside()) std::cout << "not taken " << key << "\n";
    std::string network;
    model::ModelConfig guess;
    try {
        const weights::WeightsInfo guessed = weights::guess_info(file);
        network = network_text(guessed) + " (from names and shapes; the file does not say)";
        guess = guessed.model;
    } catch (const DataError& error) {
        const std::string text = error.what();  // "FILE holds … — why — what to do"
        network = cat("none of this program: ", text.substr(0, text.find(" — ")));
    }
    std::cout << "network   " << network << "\n";
    print_switches(guess);
}

int print_info(const std::string& path) {
    const weights::WeightsFile file(path);
    std::cout << "file      " << file.path().string() << "\nkind      " << file.kind() << "\n";
    print_network(file);
    for (const auto& [key, value] : file.metadata())
        std::cout << "metadata  " << io::to_json(key) << ": " << io::to_json(value) << "\n";
    for (const std::string& name : file.others()) std::cout << "no tensor " << name << "\n";
    std::size_t width = 0;
    for (const auto& t : file.tensors()) width = std::max(width, t.name.size());
    std::int64_t values = 0;
    for (const auto& t : file.tensors()) {
        std::int64_t elements = 1;
        for (const std::int64_t e : t.extents) elements *= e;
        values += elements;
        std::cout << left_aligned(t.name, width + 2)
                  << left_aligned(t.type, std::max<std::size_t>(6, t.type.size() + 1))
                  << shape_text(t.extents) << "\n";
    }
    std::cout << "total     " << file.tensors().size() << " tensors, " << values << " values"
              << std::endl;
    return 0;
}

// What the weights themselves cannot tell.
weights::WeightsInfo described(const weights::WeightsFile& file, const Arguments& a) {
    if (file.info()) {
        if (!a.stride.empty() || !a.classes.empty()) {
            throw UsageError(
                cat("--output-stride and --classes are for files that do not describe "
                    "themselves — ",
                    file.path().string(),
                    " does, and its weights were trained so — "
                    "leave them out"));
        }
        return *file.info();
    }
    weights::WeightsInfo info = weights::guess_info(file);
    info.model.output_stride = a.stride == "8" ? 8 : 16;
    info.classes = a.classes.empty() ? data::voc_classes() : data::load_classes(a.classes);
    const auto classes = static_cast<int>(info.classes.classes.size());
    if (info.model.num_classes == 0) info.model.num_classes = classes;
    if (info.model.num_classes != classes) {
        throw UsageError(cat(file.path().string(), " has a classifier of ", info.model.num_classes,
                             " classes and ", a.classes.empty() ? "VOC" : a.classes, " names ",
                             classes,
                             " — predictions would have wrong names — give --classes FILE "
                             "with theirs"));
    }
    return info;
}

int convert(const Arguments& a) {
    const std::string &in = a.convert[0], &out = a.convert[1];
    const weights::WeightsFile file(in);
    std::error_code ignored;
    if (fs::is_directory(out, ignored) || fs::equivalent(file.path(), out, ignored)) {
        throw UsageError(cat(out, " is ", fs::is_directory(out, ignored) ? "a folder" : "the input",
                             " — the weights need a file of their own — give another name"));
    }
    const weights::WeightsInfo info = described(file, a);
    const std::int64_t side = model::padded_size(info.model, 1);
    const graph::Plan plan = model::inference_plan(info.model, 1, side, side);
    weights::ImportedWeights weights = weights::import_weights(file, plan, {});
    weights.snapshot.info = info;
    const bool fresh = std::any_of(weights.table.begin(), weights.table.end(), [](const auto& row) {
        return row.fate == weights::ImportedWeights::Row::Fate::initialised;
    });
    weights::save_weights(out, weights.snapshot, fresh ? "ASPP and decoder" : file.untrained());
    std::cout << weights::to_text(weights) << out << ": " << network_text(info)
              << ", output stride " << info.model.output_stride << "; " << weights::summary(weights)
              << std::endl;
    return 0;
}

int run(int argc, char** argv, comm::MpiSession& session) {
    Arguments a;
    CommandLine line("deeplab-weights",
                     "Shows weights, and converts them to safetensors that PyTorch loads.",
                     "deeplab-weights info RUN\n"
                     "deeplab-weights convert resnet101-5d3b4d8f.pth resnet101.safetensors\n"
                     "deeplab-weights convert RUN trained.safetensors");
    CommandLine& info = line.command(
        "info",
        "Kind, network, metadata and tensors of WEIGHTS: a checkpoint, a run's folder (its "
        "best), safetensors or a PyTorch .pth");
    info.positional("WEIGHTS", a.info, "the file or folder", true);
    CommandLine& to = line.command(
        "convert",
        "Writes the weights in IN as safetensors OUT, with the names of "
        "tests/golden/deeplab_torch.py, and says what became of every tensor");
    to.positional("FILES", a.convert, "IN, weights of any kind, and OUT, the file to write", true);
    to.option("--output-stride", a.stride, "of a file that does not say it; by default 16",
              {false, {"8", "16"}, ""});
    to.option(
        "--classes", a.classes,
        "names and colours of the classes (TOML) of a file that does not say them; by default "
        "VOC's",
        {false, {}, "FILE"});
    if (!line.parse(argc, argv)) return 0;
    session.world();
    if (info.chosen()) {
        if (a.info.size() != 1)
            throw UsageError("info takes one WEIGHTS — it shows one at a time — give one path");
        return print_info(a.info[0]);
    }
    if (to.chosen()) {
        if (a.convert.size() != 2)
            throw UsageError(
                "convert takes IN and OUT — it reads the one and writes the other — "
                "deeplab-weights convert IN OUT.safetensors");
        return convert(a);
    }
    throw UsageError(
        "deeplab-weights needs a command — there is nothing to do — info WEIGHTS, or "
        "convert IN OUT");
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    return comm::run_guarded(session, [&] { return run(argc, argv, session); });
}
