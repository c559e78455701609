#include "deeplab/weights/weights.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/io/features.h"
#include "deeplab/io/tensor_file.h"
#include "metadata.h"
#include "names.h"
#include "origin.h"

namespace deeplab::weights {

namespace {

using Row = ImportedWeights::Row;
using Fate = Row::Fate;

const char* const untrained_key = "untrained";

const char* initialisation(graph::ParameterKind kind) {
    switch (kind) {
        case graph::ParameterKind::conv_weight: return "He normal, fan in";
        case graph::ParameterKind::bias: return "U(+-1/sqrt(fan in))";
        case graph::ParameterKind::bn_gamma: return "1";
        case graph::ParameterKind::bn_beta: return "0";
    }
    return "";
}

bool is_classifier(const std::string& ours) { return ours.starts_with("decoder.classifier."); }

class Importer {
public:
    Importer(const WeightsFile& file, const graph::Plan& plan, const ImportOptions& options)
        : file_(file), plan_(plan), options_(options), names_(names_or_refuse(file)) {}

    ImportedWeights run() {
        std::vector<Row> ignored;
        places_ = places_of(file_, names_, ignored);
        result_.naming = name(names_.naming);
        result_.remarks = remarks_on(file_, names_);
        for (const graph::Parameter& p : plan_.parameters) {
            place(p.name, extents_of(p), result_.snapshot.parameters, initialisation(p.kind),
                  [&] { return model::initial_value(p, plan_, options_.seed); });
        }
        for (const graph::State& s : plan_.states) {
            place(s.name, extents_of(s), result_.snapshot.states, s.initial == 0 ? "0" : "1", [&] {
                return std::vector<float>(static_cast<std::size_t>(s.shape.elements()), s.initial);
            });
        }
        for (const auto& [ours, index] : places_) {
            if (used_.contains(ours)) continue;
            const auto& tensor = file_.tensors()[index];
            if (!options_.reset_classifier || !is_classifier(ours)) {
                refuse(cat(tensor.name, " (", text_of(tensor.extents),
                           ") is in the file and not in this network"));
            }
            ignored.push_back({Fate::ignored, "", tensor.name, "the classifier starts afresh"});
        }
        result_.table.insert(result_.table.end(), ignored.begin(), ignored.end());
        return std::move(result_);
    }

private:
    [[noreturn]] void refuse(const std::string& difference) const {
        const model::Recognised backbone = backbone_of(file_, places_);
        std::string holds = backbone.text;
        const std::int64_t classes = classes_of(file_, places_);
        if (classes > 0) holds += cat(", ", classes, " classes");
        throw DataError(cat("the weights are of another network: ", difference, " (",
                            file_.path().string(), ") — the file holds ", holds, " — ",
                            backbone.name.empty()
                                ? cat("give weights of ", wanted_backbones())
                                : "give weights of this network, or the configuration of that "
                                  "one"));
    }

    void refuse_shape(const std::string& ours, const WeightsFile::Tensor& tensor,
                      const Extents& extents) const {
        const std::string named = tensor.name == ours ? ours : cat(tensor.name, " (", ours, ")");
        const std::string shapes = cat(named, " is ", text_of(tensor.extents), " in the file and ",
                                       text_of(extents), " in this network");
        if (is_classifier(ours) && tensor.extents.size() == extents.size() &&
            std::equal(extents.begin() + 1, extents.end(), tensor.extents.begin() + 1)) {
            throw DataError(cat("the weights have another number of classes: ", shapes, " (",
                                file_.path().string(),
                                ") — their classifier knows other classes than this data set has — "
                                "give --reset-classifier to start it afresh and keep the rest, or "
                                "weights of these classes"));
        }
        refuse(shapes);
    }

    template <class Initial>
    void place(const std::string& ours, const Extents& extents,
               std::map<std::string, std::vector<float>>& into, const char* how,
               const Initial& initial) {
        result_.snapshot.extents[ours] = extents;
        const bool reset = options_.reset_classifier && is_classifier(ours);
        const auto found = places_.find(ours);
        if (reset || found == places_.end()) {
            const bool new_head = names_.naming.kind == Naming::Kind::backbone &&
                                  !ours.starts_with("backbone.");
            if (!reset && !new_head)
                refuse(cat(ours, " (", text_of(extents), ") is not in the file"));
            into[ours] = initial();
            result_.table.push_back({Fate::initialised, ours, "",
                                     cat(reset ? "as asked for: " : "not in the file: ", how)});
            return;
        }
        used_.emplace(ours, true);
        const WeightsFile::Tensor& tensor = file_.tensors()[found->second];
        if (tensor.extents != extents) refuse_shape(ours, tensor, extents);
        if (!tensor.floating)
            refuse(cat(tensor.name, " holds ", tensor.type, ", a weight is a floating number"));
        std::vector<float> values = file_.values(found->second);
        const auto bad = std::find_if(values.begin(), values.end(),
                                      [](float v) { return !std::isfinite(v); });
        if (bad != values.end()) {
            throw DataError(cat(tensor.name, " in ", file_.path().string(), " holds ", *bad,
                                " at element ", bad - values.begin(),
                                " — a network would give nothing else — give weights of a run that "
                                "did not diverge"));
        }
        const ForeignNetwork* network = names_.naming.network;
        if (network != nullptr && network->low_level_first && ours == first_of_decoder)
            reorder(values, extents);
        into[ours] = std::move(values);
        result_.table.push_back({Fate::loaded, ours, tensor.name,
                                 tensor.type == "F32" ? "" : cat("from ", tensor.type)});
    }

    void reorder(std::vector<float>& values, const Extents& extents) const {
        const Extents low = extents_at(file_, places_, "decoder.low.conv.weight");
        if (low.empty() || low[0] >= extents[1]) return;  // refused with its shape
        to_our_concatenation(values, static_cast<std::size_t>(extents[0]),
                             static_cast<std::size_t>(extents[2] * extents[3]),
                             static_cast<std::size_t>(low[0]));
    }

    const WeightsFile& file_;
    const graph::Plan& plan_;
    const ImportOptions& options_;
    Names names_;
    Places places_;
    std::map<std::string, bool> used_;
    ImportedWeights result_;
};

}  // namespace

struct WeightsFile::Impl {
    std::filesystem::path path;
    std::string kind;
    std::vector<Tensor> tensors;
    std::optional<WeightsInfo> info;
    io::TensorFile file;                            // of safetensors and .pth
    Snapshot snapshot;                              // of a checkpoint
    std::vector<const std::vector<float>*> values;  // of a checkpoint, in the order of tensors

    void read_checkpoint() {
        kind = "a checkpoint of this program";
        snapshot = load_checkpoint(path);
        info = snapshot.info;
        for (const auto* group : {&snapshot.parameters, &snapshot.states}) {
            for (const auto& [name, content] : *group) {
                tensors.push_back({name, "F32", snapshot.extents.at(name), true});
                values.push_back(&content);
            }
        }
        snapshot.momentum.clear();
    }
    void read_tensor_file() {
        file = io::load_tensor_file(path);
        kind = file.kind;
        for (const io::StoredTensor& t : file.tensors)
            tensors.push_back({t.name, io::name(t.type), t.extents, io::is_floating(t.type)});
        try {
            info = from_metadata(file.metadata, path.string());
        } catch (const io::NewerFile&) {
            throw;
        } catch (const DataError& error) {
            throw DataError(cat(path.string(), " cannot be used: ", error.what(),
                                " — it does not say of which network it is — convert or fetch it "
                                "again"));
        }
    }
};

WeightsFile::WeightsFile(const std::filesystem::path& weights) : impl_(std::make_unique<Impl>()) {
    impl_->path = find_weights(weights);
    // Whatever it is: what cannot be used is told apart there.
    io::content_of(impl_->path) == io::Content::hdf5 ? impl_->read_checkpoint()
                                                     : impl_->read_tensor_file();
}

WeightsFile::~WeightsFile() = default;

const std::filesystem::path& WeightsFile::path() const { return impl_->path; }
const std::string& WeightsFile::kind() const { return impl_->kind; }
const std::vector<WeightsFile::Tensor>& WeightsFile::tensors() const { return impl_->tensors; }
const std::optional<WeightsInfo>& WeightsFile::info() const { return impl_->info; }
const Metadata& WeightsFile::metadata() const { return impl_->file.metadata; }
const std::vector<std::string>& WeightsFile::others() const { return impl_->file.others; }

const std::string& WeightsFile::taken() const { return impl_->file.taken; }
const std::vector<std::string>& WeightsFile::beside() const { return impl_->file.beside; }

std::vector<float> WeightsFile::values(std::size_t tensor) const {
    if (!impl_->values.empty()) return *impl_->values.at(tensor);
    return io::to_f32(impl_->file.tensors.at(tensor));
}

std::string WeightsFile::untrained() const {
    const std::string* found = find(impl_->file.metadata, untrained_key);
    return found == nullptr ? "" : *found;
}

ImportedWeights import_weights(const WeightsFile& file, const graph::Plan& plan,
                               const ImportOptions& options) {
    return Importer(file, plan, options).run();
}

std::string to_text(const ImportedWeights& weights) {
    constexpr const char* fates[] = {"loaded", "initialised", "ignored"};
    std::size_t width = 0;
    for (const Row& row : weights.table) width = std::max(width, row.ours.size());
    std::string text;
    for (const Row& row : weights.table) {
        text += left_aligned(fates[static_cast<int>(row.fate)], 13);
        text += left_aligned(row.ours.empty() ? "-" : row.ours, width + 2);
        std::string rest = row.theirs == row.ours ? "" : row.theirs;
        if (!row.note.empty()) rest += cat(rest.empty() ? "" : "  ", "(", row.note, ")");
        text += rest + "\n";
    }
    return text;
}

std::string summary(const ImportedWeights& weights) {
    std::map<std::pair<Fate, std::string>, std::pair<std::int64_t, std::string>> groups;
    for (const Row& row : weights.table) {
        auto& [count, example] = groups[{row.fate, row.fate == Fate::loaded ? "" : row.note}];
        if (count++ == 0) example = row.ours.empty() ? row.theirs : row.ours;
    }
    std::string text = cat("names: ", weights.naming);
    for (const std::string& remark : weights.remarks) text += cat("\n  ", remark);
    for (const auto& [key, group] : groups) {
        const auto& [fate, note] = key;
        const auto& [count, example] = group;
        if (fate == Fate::loaded)
            text += cat("\n  loaded       ", count, " tensors");
        else
            text += cat("\n  ", fate == Fate::ignored ? "ignored      " : "initialised  ", count,
                        ", e.g. ", example, " (", note, ")");
    }
    return text;
}

WeightsInfo guess_info(const WeightsFile& file) {
    std::vector<Row> ignored;
    const Names names = names_or_refuse(file);
    const auto places = places_of(file, names, ignored);
    const model::Recognised backbone = backbone_of(file, places);
    if (backbone.name.empty()) {
        throw DataError(cat(file.path().string(), " holds ", backbone.text,
                            " — nothing here could use it — give ", wanted_backbones()));
    }
    const ForeignNetwork* network = names.naming.network;
    WeightsInfo info;
    if (network != nullptr) info.model = network->settings;
    info.model.backbone = backbone.name;
    info.model.width_divisor = backbone.width_divisor;
    info.model.num_classes = static_cast<int>(classes_of(file, places));
    info.model.decoder_convs = places.contains("decoder.refine1.conv.weight") &&
                                       !places.contains("decoder.refine2.conv.weight")
                                   ? 1
                                   : 2;
    info.model.separable = places.contains("aspp.branch1.dw.weight");
    if (network == nullptr) info.model.dilation = model::family_of(backbone.name).dilations.front();
    if (const auto seen = normalisation_of(file)) {
        info.model.mean = seen->mean;
        info.model.std = seen->std;
    }
    return info;
}

std::optional<model::ModelConfig> trained_as(const WeightsFile& file) {
    if (file.info())
        return file.untrained().empty() ? std::optional(file.info()->model) : std::nullopt;
    const auto names = names_of(tensor_names(file));
    if (!names || names->naming.network == nullptr) return std::nullopt;
    return names->naming.network->settings;
}

std::optional<data::Normalisation> normalisation_of(const WeightsFile& file) {
    if (file.info()) return file.info()->normalisation();
    const Names names = names_or_refuse(file);
    if (const ForeignNetwork* network = names.naming.network; network && network->normalised)
        return data::Normalisation{network->settings.mean, network->settings.std};
    if (names.naming.foreign == nullptr) return std::nullopt;
    return data::Normalisation{names.naming.foreign->mean, names.naming.foreign->std};
}

void save_weights(const std::filesystem::path& target, const Snapshot& snapshot,
                  const std::string& untrained) {
    std::vector<io::TensorToWrite> tensors;
    for (const auto* group : {&snapshot.parameters, &snapshot.states}) {
        for (const auto& [name, values] : *group) {
            tensors.push_back({name,
                               io::ElementType::f32,
                               snapshot.extents.at(name),
                               {reinterpret_cast<const unsigned char*>(values.data()),
                                values.size() * sizeof(float)}});
        }
    }
    Metadata metadata = to_metadata(snapshot.info);
    if (!untrained.empty()) metadata.emplace_back(untrained_key, untrained);
    io::write_safetensors(target, std::move(tensors), metadata);
}

}  // namespace deeplab::weights
