#include "deeplab/weights/class_names.h"

#include <algorithm>

#include "deeplab/base/text.h"

namespace deeplab::weights {

ClassDifference compare_classes(const data::ClassTable& weights, const data::ClassTable& data) {
    const auto &a = weights.classes, &b = data.classes;
    if (a.size() != b.size())
        return {cat("the weights know ", a.size(), " classes, the data has ", b.size()), true};
    const auto holds = [](const auto& classes, const std::string& name) {
        return std::any_of(classes.begin(), classes.end(),
                           [&](const data::ClassInfo& c) { return c.name == name; });
    };
    ClassDifference difference;
    std::size_t others = 0;
    bool permutation = true;
    for (std::size_t i = 0; i < a.size(); ++i) {
        permutation = permutation && holds(b, a[i].name);
        if (a[i].name == b[i].name) continue;
        difference.moved = difference.moved || holds(b, a[i].name) || holds(a, b[i].name);
        if (difference.text.empty()) {
            difference.text = cat("class ", i, " is \"", a[i].name, "\" in the weights and \"",
                                  b[i].name, "\" in the data");
        } else {
            ++others;
        }
    }
    if (others > 0)
        difference.text += cat(", and ", others, others == 1 ? " more differs" : " more differ");
    if (difference && permutation) difference.text += " (the same classes in another order)";
    return difference;
}

}  // namespace deeplab::weights
