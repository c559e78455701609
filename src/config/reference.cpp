// The list of keys that users read: made from the table that reads them.

#include "deeplab/base/text.h"
#include "keys.h"

namespace deeplab::config {

std::string config_reference() {
    Config defaults;
    defaults.model.num_classes = 0;
    std::string text, section;
    for (const Key& key : all_keys()) {
        const auto dot = key.name.find('.');
        const std::string table = key.name.substr(0, dot);
        if (table != section) {
            text += cat(text.empty() ? "" : "\n", "### [", table,
                        "]\n| key | default | takes | what it does |\n|---|---|---|---|\n");
            section = table;
        }
        text += cat("| ", key.name.substr(dot + 1), key.may_change ? " \u21bb" : "",
                    key.may_differ ? " \u2260" : "", " | `", io::to_json(key.get(defaults)), "` | ",
                    key.takes, " | ", key.does, " |\n");
    }
    return text;
}

}  // namespace deeplab::config
