#pragma once
// Whose names a file's tensors have; private to this folder.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deeplab/model/backbone.h"
#include "networks.h"

namespace deeplab::weights {

struct Naming {
    enum class Kind {
        ours,      // backbone.conv1.weight, aspp.branch0.conv.weight, decoder.classifier.bias
        backbone,  // conv1.weight, layer1.0.bn1.running_mean, fc.weight: a backbone alone
        network,   // Resnet101.conv1.weight, …, decoder.conv4.weight: another program's
    };
    Kind kind = Kind::ours;
    const model::ForeignNames* foreign = nullptr;  // of a backbone alone
    const ForeignNetwork* network = nullptr;       // of another program's network
};

std::string name(const Naming& naming);  // "torchvision's ResNet"

// How a file's names are to be read. Wrappers put words into them, anywhere ("module" of
// DataParallel, "_orig_mod" of torch.compile); training scripts put the network's place before them
// ("model.", "ema.").
struct Names {
    Naming naming;
    std::string place;                // of the network that is taken, "" or "model"
    std::vector<std::string> beside;  // places of other networks with these names
    std::vector<std::string> words;   // of wrappers that were found and are left out
    bool averaged = false;            // the network that is taken is an average of others
    bool ambiguous = false;           // another one, no average, might be meant
};

// By names that one naming alone has. A network that is no average goes before one that is. None
// when no naming fits.
std::optional<Names> names_of(const std::vector<std::string>& names);

// Our name of a tensor, whether or not the network has it; "" for what needs no place, and then
// `why` says why.
std::string our_name(const Names& names, std::string_view theirs, std::string& why);

// What the names are known for, where the file would give another function here; else none.
const model::Lookalike* lookalike_of(const std::vector<std::string>& names);

// Of a place that a name or a key of a file gives: "model_ema".
bool is_average(std::string_view place);

}  // namespace deeplab::weights
