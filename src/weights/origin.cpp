#include "origin.h"

#include <algorithm>
#include <string_view>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/config/model_fields.h"

namespace deeplab::weights {

std::vector<std::string> tensor_names(const WeightsFile& file) {
    std::vector<std::string> names;
    for (const auto& tensor : file.tensors()) names.push_back(tensor.name);
    return names;
}

std::string wanted_backbones() {
    std::string text;
    for (const model::BackboneFamily& family : model::backbone_families())
        text += cat(text.empty() ? "" : ", or ", family.wanted);
    return text;
}

Names names_or_refuse(const WeightsFile& file) {
    if (const model::Lookalike* other = lookalike_of(tensor_names(file))) {
        throw DataError(cat(file.path().string(), " holds ", other->whose,
                            " — its tensors are called like those of a network here, and it is "
                            "another function: ",
                            other->why, " — give weights of ", wanted_backbones()));
    }
    const auto names = names_of(tensor_names(file));
    if (names && !names->ambiguous) return *names;
    if (names) {
        throw DataError(cat(file.path().string(), " holds several networks: ",
                            names->place.empty() ? "one at its top" : names->place, " and ",
                            names->beside.front(),
                            " — it cannot be told which is meant — save the one that you want "
                            "alone: torch.save(MODEL.state_dict(), FILE)"));
    }
    std::string some;
    for (std::size_t i = 0; i < std::min<std::size_t>(3, file.tensors().size()); ++i)
        some += cat(i == 0 ? "" : ", ", file.tensors()[i].name);
    throw DataError(cat(file.path().string(),
                        " holds no network that is known: ", file.tensors().size(),
                        file.tensors().size() == 1 ? " tensor, named " : " tensors, named ", some,
                        file.tensors().size() > 3 ? ", …" : "",
                        " — it cannot be told which belongs where — give weights with the names of "
                        "torchvision's ResNets or MobileNetV2, of timm's aligned Xceptions, of "
                        "this program's networks (backbone.…, aspp.…, decoder.…), or of networks "
                        "of the reference implementation (Resnet101.…, encoder.…), VainF's "
                        "(classifier.aspp.…) or jfzhang95's (aspp.aspp1.…)"));
}

std::vector<std::string> remarks_on(const WeightsFile& file, const Names& names) {
    std::vector<std::string> remarks;
    if (const ForeignNetwork* network = names.naming.network) {
        const std::string text = config::switches(network->settings).text;
        if (!text.empty()) remarks.push_back(cat("its network computes with ", text));
        if (network->low_level_first) {
            remarks.push_back(cat(first_of_decoder,
                                  ": channels reordered, the low-level features come first there"));
        }
    }
    std::string words;
    for (const std::string& word : names.words) words += cat(words.empty() ? "" : ", ", word);
    if (!words.empty()) remarks.push_back(cat("left out of the names: ", words));
    const auto place = [](const std::string& key, const std::string& before) {
        return before.empty() || key.empty() ? before + key : cat(before, ".", key);
    };
    const std::string taken = place(names.place, file.taken());
    if (!taken.empty()) {
        remarks.push_back(
            cat("taken from ", taken,
                names.averaged || is_average(taken) ? ", an average of weights" : ""));
    }
    std::vector<std::string> beside = file.beside();
    for (const std::string& key : names.beside) beside.push_back(place(key, file.taken()));
    for (const std::string& key : beside)
        remarks.push_back(
            cat("not taken: ", key, is_average(key) ? ", an average of weights" : ""));
    return remarks;
}

Places places_of(const WeightsFile& file, const Names& names,
                 std::vector<ImportedWeights::Row>& ignored) {
    Places places;
    for (std::size_t i = 0; i < file.tensors().size(); ++i) {
        const std::string& theirs = file.tensors()[i].name;
        std::string why;
        const std::string ours = our_name(names, theirs, why);
        if (ours.empty()) {
            ignored.push_back({ImportedWeights::Row::Fate::ignored, "", theirs, why});
        } else if (const auto [other, fresh] = places.emplace(ours, i); !fresh) {
            throw DataError(cat(file.path().string(), " cannot be used: ",
                                file.tensors()[other->second].name, " and ", theirs,
                                " are the same tensor of the network — it cannot be told which is "
                                "meant — keep one of them"));
        }
    }
    for (const std::string& name : file.others())
        ignored.push_back({ImportedWeights::Row::Fate::ignored, "", name, "no tensor"});
    return places;
}

Extents extents_at(const WeightsFile& file, const Places& places, const std::string& ours) {
    const auto found = places.find(ours);
    return found == places.end() ? Extents{} : file.tensors()[found->second].extents;
}

std::int64_t classes_of(const WeightsFile& file, const Places& places) {
    const Extents classifier = extents_at(file, places, "decoder.classifier.weight");
    return classifier.empty() ? 0 : std::min<std::int64_t>(classifier[0], 256);
}

model::Recognised backbone_of(const WeightsFile& file, const Places& places) {
    constexpr std::string_view place = "backbone.";
    model::TensorExtents tensors;
    for (const auto& [ours, index] : places) {
        if (ours.starts_with(place))
            tensors.emplace(ours.substr(place.size()), file.tensors()[index].extents);
    }
    for (const model::BackboneFamily& family : model::backbone_families()) {
        if (tensors.contains(family.stem)) return family.recognise(tensors);
    }
    return {"", "no backbone of this program"};
}

}  // namespace deeplab::weights
