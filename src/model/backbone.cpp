#include "deeplab/model/backbone.h"

#include <algorithm>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "families.h"

namespace deeplab::model {

const std::vector<BackboneFamily>& backbone_families() {
    static const std::vector<BackboneFamily> all = {resnet_family(), mobilenet_family(),
                                                    xception_family()};
    return all;
}

std::vector<std::string> backbone_names() {
    std::vector<std::string> names;
    for (const BackboneFamily& family : backbone_families())
        names.insert(names.end(), family.names.begin(), family.names.end());
    return names;
}

const BackboneFamily& family_of(const std::string& backbone) {
    std::string all;
    for (const BackboneFamily& family : backbone_families()) {
        for (const std::string& name : family.names) {
            if (name == backbone) return family;
            all += (all.empty() ? "" : ", ") + name;
        }
    }
    throw UsageError(cat("unknown backbone \"", backbone,
                         "\" (model.backbone) — the network cannot be built — use one of ", all));
}

}  // namespace deeplab::model
