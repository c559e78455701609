#pragma once
// Weights of any origin: our checkpoints, safetensors, PyTorch's .pth. A file's names are ours,
// those of an ImageNet backbone (torchvision's ResNet or MobileNetV2, timm's aligned Xception) or
// of another program's DeepLabV3+ (the reference implementation's, VainF's, jfzhang's); which, and
// what became of every tensor, is said.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/graph/plan.h"
#include "deeplab/weights/checkpoint.h"

namespace deeplab::weights {

// A file's tensors under its own names, held in memory.
class WeightsFile {
public:
    struct Tensor {
        std::string name, type;             // type as safetensors has it: "F32"
        std::vector<std::int64_t> extents;  // PyTorch's
        bool floating = true;
    };

    // A file, told apart by content, or a RUN folder (its best checkpoint, else its latest).
    // DataError for anything else, and for a file that is damaged.
    explicit WeightsFile(const std::filesystem::path& weights);
    ~WeightsFile();
    WeightsFile(const WeightsFile&) = delete;
    WeightsFile& operator=(const WeightsFile&) = delete;

    const std::filesystem::path& path() const;
    const std::string& kind() const;  // "a checkpoint of this program", "safetensors", …
    const std::vector<Tensor>& tensors() const;
    std::vector<float> values(std::size_t tensor) const;  // row-major
    // What the file says of itself; none unless this program wrote it.
    const std::optional<WeightsInfo>& info() const;
    // Parts that no training has touched ("aspp, decoder"), of a file converted from a backbone.
    std::string untrained() const;
    const std::vector<std::pair<std::string, std::string>>& metadata() const;  // of safetensors
    const std::vector<std::string>& others() const;  // of a .pth: names of what is no tensor
    // Where in a .pth the tensors stand ("model"; "" at its top), and other state dicts beside
    // them.
    const std::string& taken() const;
    const std::vector<std::string>& beside() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

struct ImportOptions {
    std::uint64_t seed = 1;         // of what the file does not hold
    bool reset_classifier = false;  // starts the classifier afresh whatever the file holds
};

struct ImportedWeights {
    // What became of a tensor of the network, or of one in the file that the network has no use
    // for.
    struct Row {
        enum class Fate { loaded, initialised, ignored };
        Fate fate = Fate::loaded;
        std::string ours, theirs, note;  // names; "" where there is none
    };

    Snapshot snapshot;   // parameters and states of the plan; no momentum, no info
    std::string naming;  // "torchvision's ResNet"
    // How the network stands in the file, where that is not plain: wrappers, other networks beside.
    std::vector<std::string> remarks;
    std::vector<Row> table;  // the network's tensors in its order, then the ignored ones
};

// The plan's parameters and states from the file. Initialised are: ASPP and decoder when the file
// is a backbone's, and the classifier with reset_classifier. DataError for everything else that is
// missing, has another shape, is unknown, is no floating number or not finite, and for networks
// that look alike and compute something else.
ImportedWeights import_weights(const WeightsFile& file, const graph::Plan& plan,
                               const ImportOptions& options);

std::string to_text(const ImportedWeights& weights);  // the table, a line a tensor
std::string summary(const ImportedWeights& weights);  // a few lines: counts and reasons

// Of which network a file is that does not say so itself: backbone, widths and classes from names
// and shapes; what weights cannot tell (stride, names of classes) is the default's, mean and std
// are those of its origin where that is known. num_classes is 0 when the file holds no classifier.
// DataError when it is no network of ours.
WeightsInfo guess_info(const WeightsFile& file);

// The network that the weights were trained in, as far as they are the same function only there:
// its members of config::switches(), where the file or the program that it comes from says them.
std::optional<model::ModelConfig> trained_as(const WeightsFile& file);

// Of the images that the weights were trained on; none where that cannot be told.
std::optional<data::Normalisation> normalisation_of(const WeightsFile& file);

// safetensors with our names, which a plain PyTorch module loads with strict=True
// (tests/golden/deeplab_torch.py), and with what eval and predict need to know as metadata.
// Atomic, and the same bytes for the same weights. `untrained`: see WeightsFile.
void save_weights(const std::filesystem::path& target, const Snapshot& snapshot,
                  const std::string& untrained);

}  // namespace deeplab::weights
