#pragma once
// Whose names a file's tensors have; private to this folder.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deeplab::train {

enum class Naming {
    ours,         // backbone.conv1.weight, aspp.branch0.conv.weight, decoder.classifier.bias
    torchvision,  // conv1.weight, layer1.0.bn1.running_mean, fc.weight: a backbone alone
    reference,    // Resnet101.conv1.weight, encoder.ASPP._atrous_convolution1.0.weight, …
};

const char* name(Naming naming);

// By names that one naming alone has; "module." of DataParallel may stand before all of them.
// none when no naming fits.
std::optional<Naming> naming_of(const std::vector<std::string>& names);

// Our name of a tensor, whether or not the network has it; "" for what needs no place, and then
// `why` says why.
std::string our_name(Naming naming, std::string_view theirs, std::string& why);

}  // namespace deeplab::train
