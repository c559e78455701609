#pragma once
// The table of configuration keys: each one's name, how it is read and written, what it takes, and
// whether it may change on --resume or between the ranks of a job.

#include <functional>
#include <string>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/config/config.h"
#include "deeplab/io/value.h"

namespace deeplab::config {

// Groups whose weight decay is not written take the optimizer's, which may be read later.
constexpr float unset_weight_decay = -1.0f;

// A value and where it stands, for messages.
struct Item {
    const io::Value& value;
    std::string key, where;

    [[noreturn]] void wrong(const std::string& expected) const {
        throw UsageError(cat(key, " is not ", expected, " (", where,
                             ") — the run would not be the one you meant — give ", key, " ",
                             expected));
    }
    [[noreturn]] void later(const std::string& sentence) const {
        throw UsageError(cat(key, " (", where, "): ", sentence));
    }
};

struct Key {
    std::string name;
    std::function<void(Config&, const Item&)> set;
    std::function<io::Value(const Config&)> get;
    std::string expected;     // "a positive integer", for messages and the reference
    bool may_change = false;  // on --resume
    // Between the ranks of a job: of use to a rank alone, and it changes no number and no exchange.
    bool may_differ = false;
};

const std::vector<Key>& all_keys();

}  // namespace deeplab::config
