#include "deeplab/weights/checkpoint.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "checkpoint_info.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/features.h"
#include "deeplab/io/hdf5.h"
#include "extents.h"

namespace deeplab::weights {

namespace {

using Tensors = std::map<std::string, std::vector<float>>;

constexpr std::int64_t format_version = 1;
const char* const format_name = "deeplab-hpc checkpoint";

std::int64_t elements_of(const Extents& extents) {
    std::int64_t n = 1;
    for (const auto e : extents) n *= e;
    return n;
}

std::uint64_t hash_tensors(const Tensors& tensors, std::uint64_t seed) {
    for (const auto& [name, values] : tensors) {
        seed = fnv1a(values.data(), values.size() * sizeof(float), hash_text(name, seed));
    }
    return seed;
}

void read_group(const io::Hdf5Reader& file, const std::string& group, Tensors& tensors,
                Snapshot& snapshot) {
    for (const auto& name : file.list(group)) {
        const std::string path = cat(group, "/", name);
        const Extents extents = file.extents(path);
        const auto known = snapshot.extents.emplace(name, extents).first;
        if (known->second != extents)
            throw DataError(
                cat(path, " is ", text_of(extents), " and not ", text_of(known->second)));
        tensors[name] = file.read_all<float>(path, DType::f32);
    }
}

// The first tensor, in the plan's order, that the file lacks or holds in another shape; then what
// only the file has.
std::string first_difference(const graph::Plan& plan, const Snapshot& snapshot) {
    std::vector<std::string> known;
    std::string problem;
    const auto check = [&](const std::string& name, const Extents& extents,
                           const Tensors& tensors) {
        known.push_back(name);
        if (!problem.empty()) return;
        const auto found = tensors.find(name);
        const auto shape = snapshot.extents.find(name);
        if (found == tensors.end() || shape == snapshot.extents.end()) {
            problem = cat(name, " (", text_of(extents), ") is not in the file");
        } else if (shape->second != extents ||
                   static_cast<std::int64_t>(found->second.size()) != elements_of(extents)) {
            problem = cat(name, " is ", text_of(shape->second), " in the file and ",
                          text_of(extents), " in this network");
        }
    };
    for (const auto& p : plan.parameters) check(p.name, extents_of(p), snapshot.parameters);
    for (const auto& s : plan.states) check(s.name, extents_of(s), snapshot.states);
    if (!problem.empty()) return problem;
    std::sort(known.begin(), known.end());
    for (const auto* tensors : {&snapshot.parameters, &snapshot.states}) {
        for (const auto& entry : *tensors) {
            if (!std::binary_search(known.begin(), known.end(), entry.first)) {
                return cat(entry.first, " (", text_of(snapshot.extents.at(entry.first)),
                           ") is in the file and not in this network");
            }
        }
    }
    return "";
}

std::uint64_t write_file(const std::filesystem::path& path, const Snapshot& snapshot) {
    const std::uint64_t state = state_hash(snapshot);
    io::Hdf5Writer file(path, io::Hdf5Writer::Writing::at_close);
    file.attribute("format", std::string(format_name));
    file.attribute("format_version", format_version);
    const std::pair<const char*, const Tensors*> groups[] = {{"parameters", &snapshot.parameters},
                                                             {"momentum", &snapshot.momentum},
                                                             {"states", &snapshot.states}};
    for (const auto& [group, tensors] : groups) {
        for (const auto& [name, values] : *tensors) {
            const Extents& extents = snapshot.extents.at(name);
            ensures(elements_of(extents) == static_cast<std::int64_t>(values.size()),
                    "extents fit the values");
            file.write(cat(group, "/", name), values.data(), DType::f32, extents);
        }
    }
    write_info(file, snapshot.info);
    file.attribute("content_hash", hex64(content_hash(state, snapshot.info)));
    file.close();
    return state;
}

}  // namespace

Snapshot take_snapshot(exec::Backend& backend, const graph::Plan& plan, const WeightsInfo& info) {
    Snapshot snapshot;
    snapshot.info = info;
    for (const auto& p : plan.parameters) {
        snapshot.parameters[p.name] = backend.download(p, exec::Slot::value);
        snapshot.momentum[p.name] = backend.download(p, exec::Slot::momentum);
        snapshot.extents[p.name] = extents_of(p);
    }
    for (const auto& s : plan.states) {
        snapshot.states[s.name] = backend.download(s);
        snapshot.extents[s.name] = extents_of(s);
    }
    return snapshot;
}

void apply_snapshot(exec::Backend& backend, const graph::Plan& plan, const Snapshot& snapshot,
                    bool with_momentum) {
    const std::string difference = first_difference(plan, snapshot);
    if (!difference.empty()) {
        const auto& m = snapshot.info.model;
        throw DataError(
            cat("the weights are of another network: ", difference, " — the file holds ",
                m.backbone, ", output stride ", m.output_stride, ", ", m.num_classes,
                " classes — give weights of this network, or the configuration of that one"));
    }
    for (const auto& p : plan.parameters) {
        backend.upload(p, exec::Slot::value, snapshot.parameters.at(p.name));
        if (!with_momentum) continue;
        const auto momentum = snapshot.momentum.find(p.name);
        if (momentum == snapshot.momentum.end() ||
            momentum->second.size() != snapshot.parameters.at(p.name).size()) {
            throw DataError(cat("the momentum of ", p.name,
                                " is not in the file — the run cannot go on as it was — start "
                                "from these weights with --init instead"));
        }
        backend.upload(p, exec::Slot::momentum, momentum->second);
    }
    for (const auto& s : plan.states) backend.upload(s, snapshot.states.at(s.name));
}

std::uint64_t save_checkpoint(const std::filesystem::path& target, const Snapshot& snapshot) {
    AtomicFile atomic(target);
    const std::uint64_t state = write_file(atomic.path(), snapshot);
    atomic.commit();
    return state;
}

std::uint64_t save_in_haste(const std::filesystem::path& target, const Snapshot& snapshot) {
    const AtomicFile atomic(target);
    const std::uint64_t state = write_file(atomic.path(), snapshot);
    std::filesystem::rename(atomic.path(), target);
    return state;
}

namespace {

// A whole file of something else.
struct OtherHdf5 : DataError {
    using DataError::DataError;
};

[[noreturn]] void refuse_other(const std::string& path, const io::Hdf5Reader& file) {
    std::string what = "an HDF5 file, but not a checkpoint of this program",
                remedy = "give a checkpoint of deeplab-train";
    const std::string format = file.has_attribute("format") ? file.attribute_text("format") : "";
    if (format == "deeplab-shard" || format == "deeplab-shards") {
        what = "a shard of packed images, not a checkpoint";
        remedy =
            "give a checkpoint, a run's folder or weights; shards go to --data by their folder";
    } else if (file.has_attribute("keras_version") || file.has_attribute("layer_names") ||
               file.has("model_weights")) {
        what = "a Keras model, not a checkpoint of this program";
        remedy =
            "save its tensors as safetensors or with torch.save, under the names of torchvision's "
            "ResNets";
    }
    throw OtherHdf5(cat(path, " cannot be used: it is ", what,
                        " — there are no weights in it that this program reads — ", remedy));
}

Snapshot read_checkpoint(const std::filesystem::path& path) {
    const io::Hdf5Reader file(path);
    const std::string name = cat("checkpoint ", path.string());
    if (!file.has_attribute("format") || file.attribute_text("format") != format_name)
        refuse_other(path.string(), file);
    if (const auto version = file.attribute_int("format_version"); version != format_version) {
        throw io::NewerFile(cat(name, " cannot be used: its format version is ", version,
                                ", this program reads ", format_version,
                                " — what stands in it is not known here — use the version of "
                                "deeplab-hpc that wrote it, or a newer one"));
    }
    Snapshot snapshot;
    snapshot.info = read_info(file, name);
    read_group(file, "parameters", snapshot.parameters, snapshot);
    if (file.has("momentum")) read_group(file, "momentum", snapshot.momentum, snapshot);
    read_group(file, "states", snapshot.states, snapshot);
    if (file.attribute_text("content_hash") !=
        hex64(content_hash(state_hash(snapshot), snapshot.info))) {
        throw DataError("its content does not match its own checksum");
    }
    return snapshot;
}

}  // namespace

Snapshot load_checkpoint(const std::filesystem::path& path) {
    if (access(path.c_str(), R_OK) != 0) {
        throw DataError(
            cat("checkpoint ", path.string(), " cannot be read: ", std::strerror(errno),
                " — nothing is known of what it holds — check the path, its permissions "
                "and the file system"));
    }
    try {
        return read_checkpoint(path);
    } catch (const OtherHdf5&) {
        throw;
    } catch (const io::NewerFile&) {
        throw;
    } catch (const DataError& error) {
        throw DataError(cat(
            "checkpoint ", path.string(), " cannot be used: ", error.what(),
            " — the network would start from damaged values — use another checkpoint of the run"));
    }
}

std::uint64_t state_hash(const Snapshot& snapshot) {
    std::uint64_t seed = hash_tensors(snapshot.parameters, fnv1a(nullptr, 0));
    seed = hash_tensors(snapshot.momentum, seed);
    return hash_tensors(snapshot.states, seed);
}

namespace {

// Weights that somebody keeps in a folder, and how to name them; "" for none that are known.
std::string advice_for(const std::filesystem::path& folder) {
    std::error_code ignored;
    std::string files;
    for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
        const std::string name = entry.path().filename().string(),
                          end = entry.path().extension().string();
        if (end == ".distcp") {
            return "it is a checkpoint of torch.distributed: make one file of it with python -m "
                   "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pth";
        }
        for (const char* known : {".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".h5"})
            if (end == known) files += cat(files.empty() ? "" : ", ", name);
    }
    return files.empty() ? "" : cat("name one of its files: ", files);
}

}  // namespace

std::filesystem::path find_weights(const std::filesystem::path& weights) {
    std::error_code problem;
    const auto status = std::filesystem::status(weights, problem);
    if (std::filesystem::is_directory(status)) {
        for (const auto& folder : {weights / "checkpoints", weights}) {
            for (const char* name : {"best.h5", "latest.h5"}) {
                if (std::filesystem::exists(folder / name, problem)) return folder / name;
            }
        }
        const std::string advice = advice_for(weights);
        throw DataError(cat("the folder ", weights.string(),
                            " holds no checkpoint (checkpoints/best.h5 or checkpoints/latest.h5) — "
                            "there is no network to start from — ",
                            advice.empty() ? "name a checkpoint file or the folder of a run that "
                                             "has one"
                                           : advice));
    }
    if (std::filesystem::exists(status)) return weights;
    std::error_code ignored;
    const auto link = std::filesystem::read_symlink(weights, ignored);
    const std::string why = " — there is no network to start from — ";
    if (!link.empty()) {
        throw DataError(cat(weights.string(), " is a link to ", link.string(),
                            ", which is not there", why,
                            "fetch what it names (git annex get, where a clone made it), or name a "
                            "file"));
    }
    if (status.type() == std::filesystem::file_type::none) {
        throw DataError(cat(weights.string(), " cannot be looked at: ", problem.message(), why,
                            "check the permissions of its folders"));
    }
    throw DataError(cat("there are no weights at ", weights.string(), why,
                        "name a checkpoint file or a run's folder"));
}

}  // namespace deeplab::weights
