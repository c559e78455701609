#include "names.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "deeplab/base/text.h"

namespace deeplab::weights {

namespace {

// DataParallel and DeepSpeed; torch.compile; FSDP; activation checkpoints; Lightning's strategies.
constexpr std::string_view wrappers[] = {"module", "_orig_mod", "_fsdp_wrapped_module",
                                         "_checkpoint_wrapped_module", "_forward_module"};
constexpr std::string_view plain_places[] = {"model",      "net",         "network",
                                             "state_dict", "model_state", "model_state_dict"};
constexpr std::string_view averages[] = {"ema",       "ema_model",      "model_ema",
                                         "ema_net",   "averaged_model", "swa_model",
                                         "model_swa", "ema_state_dict", "state_dict_ema"};

template <std::size_t N>
bool among(const std::string_view (&list)[N], std::string_view word) {
    return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

// A name in parts: "model.module.layer1.0.bn1.weight" stands at "model", is called
// "layer1.0.bn1.weight", and has the word "module".
struct Parts {
    std::string place, name;
    std::vector<std::string> words;
};

Parts parts_of(std::string_view theirs) {
    Parts parts;
    for (const std::string& segment : split(theirs, '.')) {
        if (among(wrappers, segment)) {
            parts.words.push_back(segment);
            continue;
        }
        const bool holds = parts.name.empty() &&
                           (among(plain_places, segment) || among(averages, segment));
        std::string& end = holds ? parts.place : parts.name;
        end += (end.empty() ? "" : ".") + segment;
    }
    return parts;
}

std::optional<Naming> naming_of(const std::set<std::string>& names) {
    const auto has = [&](const std::string& wanted) { return names.contains(wanted); };
    for (const model::BackboneFamily& family : model::backbone_families()) {
        if (has("backbone." + family.stem) && has("decoder.classifier.weight"))
            return Naming{Naming::Kind::ours};
    }
    for (const ForeignNetwork& network : foreign_networks()) {
        if (std::all_of(network.marks.begin(), network.marks.end(), has))
            return Naming{Naming::Kind::network, nullptr, &network};
    }
    for (const model::BackboneFamily& family : model::backbone_families()) {
        for (const model::ForeignNames& foreign : family.foreign) {
            if (std::all_of(foreign.marks.begin(), foreign.marks.end(), has))
                return Naming{Naming::Kind::backbone, &foreign};
        }
    }
    return std::nullopt;
}

}  // namespace

std::string name(const Naming& naming) {
    switch (naming.kind) {
        case Naming::Kind::ours: return "this program's";
        case Naming::Kind::backbone: return naming.foreign->whose;
        case Naming::Kind::network: return naming.network->whose;
    }
    return "";
}

bool is_average(std::string_view place) {
    const auto words = split(place, '.');
    return std::any_of(words.begin(), words.end(),
                       [](const std::string& word) { return among(averages, word); });
}

std::optional<Names> names_of(const std::vector<std::string>& names) {
    std::map<std::string, std::set<std::string>> by_place;
    Names found;
    for (const std::string& name : names) {
        const Parts parts = parts_of(name);
        by_place[parts.place].insert(parts.name);
        for (const std::string& word : parts.words)
            if (std::find(found.words.begin(), found.words.end(), word) == found.words.end())
                found.words.push_back(word);
    }
    bool any = false;
    for (const bool averaged : {false, true}) {
        for (const auto& [place, inside] : by_place) {
            const auto naming = naming_of(inside);
            if (!naming || is_average(place) != averaged) continue;
            if (any) {
                found.ambiguous = found.ambiguous || averaged == found.averaged;
                found.beside.push_back(place);
                continue;
            }
            any = true;
            found.naming = *naming;
            found.place = place;
            found.averaged = averaged;
        }
    }
    return any ? std::optional(found) : std::nullopt;
}

const model::Lookalike* lookalike_of(const std::vector<std::string>& names) {
    std::set<std::string> whole, inside;  // names, and the same without "backbone."
    for (const std::string& name : names) {
        const std::string bare = parts_of(name).name;
        constexpr std::string_view place = "backbone.";
        whole.insert(bare);
        inside.insert(bare.starts_with(place) ? bare.substr(place.size()) : bare);
    }
    const auto among_those = [](const std::vector<model::Lookalike>& list,
                                const std::set<std::string>& found) {
        const auto has = [&](const std::string& mark) { return found.contains(mark); };
        const auto fits = std::find_if(list.begin(), list.end(), [&](const auto& other) {
            return std::all_of(other.marks.begin(), other.marks.end(), has);
        });
        return fits == list.end() ? nullptr : &*fits;
    };
    if (const model::Lookalike* other = among_those(foreign_lookalikes(), whole)) return other;
    for (const model::BackboneFamily& family : model::backbone_families()) {
        if (const model::Lookalike* other = among_those(family.lookalikes, inside)) return other;
    }
    return nullptr;
}

std::string our_name(const Names& names, std::string_view whole, std::string& why) {
    const Parts parts = parts_of(whole);
    const std::string_view theirs = parts.name;
    const Naming& naming = names.naming;
    if (theirs.ends_with("num_batches_tracked")) {
        why = "a counter of PyTorch's batch norm: the momentum here is constant and needs none";
        return "";
    }
    if (theirs == "n_averaged") {
        why = "a counter of PyTorch's AveragedModel";
        return "";
    }
    if (parts.place != names.place) {
        if (std::find(names.beside.begin(), names.beside.end(), parts.place) !=
            names.beside.end()) {
            why = cat("of another network in the file, ", parts.place);
            return "";
        }
        return std::string(whole);  // unknown: no tensor of ours is called so
    }
    if (naming.kind == Naming::Kind::ours) return std::string(theirs);
    if (naming.kind == Naming::Kind::backbone) {
        for (const auto& [beginning, reason] : naming.foreign->left_out) {
            if (!theirs.starts_with(beginning)) continue;
            why = reason;
            return "";
        }
        return "backbone." + naming.foreign->ours(std::string(theirs));
    }
    for (const auto& [module, ours] : naming.network->modules) {
        if (theirs.starts_with(module))
            return std::string(ours) + std::string(theirs.substr(module.size()));
    }
    return std::string(theirs);
}

}  // namespace deeplab::weights
