#pragma once
// Tables of fields. A row says what a member of a struct is called, what it takes and what it does:
// configurations, what weights files say of themselves and the page of keys come from the rows.

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/io/value.h"

namespace deeplab::config {

// A value and where it stands, for messages.
struct Item {
    const io::Value& value;
    std::string name, where;

    [[noreturn]] void wrong(const std::string& takes) const;  // WrongValue
};

// A value that its field does not take.
struct WrongValue : UsageError {
    WrongValue(const Item& item, const std::string& takes);
    std::string takes;  // "a positive integer"
};
// A word that its field does not know: a newer program may know it.
struct UnknownWord : WrongValue {
    using WrongValue::WrongValue;
};

// The numbers that a field takes. Without a bound above, `high` keeps sums and products finite.
// `zero` is what 0 means where the range leaves it out and the field takes it all the same: "for
// none".
enum class Ends { both, low, high };  // that belong to the range
struct Real {
    double low = 0, high = 1e30;
    Ends ends = Ends::both;
    const char* zero = "";

    bool holds(double value) const;
    std::string text(std::size_t count = 1) const;  // "three numbers in [0, 1)"
    double number(const Item& item, const std::string& takes) const;
    // As the member holds it: 0.99999999999 is below 1, and 1 as a float.
    template <class T>
    T take(const Item& item, const std::string& takes) const {
        const T value = static_cast<T>(number(item, takes));
        if (!holds(value)) item.wrong(takes);
        return value;
    }
    static io::Value value(double v) { return v; }
    static io::Value value(float v);  // of the fewest digits: 0.1, not 0.10000000149
};
struct Whole {
    std::int64_t low = 0, high = std::int64_t{1} << 40;
    const char* zero = "";

    std::string text(std::size_t count = 1) const;
    std::int64_t number(const Item& item, const std::string& takes) const;
    template <class T>
    T take(const Item& item, const std::string& takes) const {
        return static_cast<T>(number(item, takes));
    }
    static io::Value value(std::int64_t v) { return v; }
};

std::string word(const Item& item, const std::string& takes);  // not ""
const io::Array& list(const Item& item, std::size_t size, const std::string& takes);
[[noreturn]] void refuse_choice(const Item& item, const std::string& takes);

struct Traits {
    bool may_change = false;  // on --resume
    // Between the ranks of a job: of use to a rank alone, and it changes no number and no exchange.
    bool may_differ = false;
    // Came after the first files with such a table: files leave it out where it has its default,
    // so that the same settings give the same files and older programs read them.
    bool newer = false;
    bool key = true;  // configurations have it
    // Where checkpoints of version 1 hold it: an attribute, or a part of a dataset ("group/name").
    const char* place = "";
};

template <class S>
struct Field : Traits {
    std::string name;  // "model.output_stride"
    std::function<void(S&, const Item&)> set;
    std::function<io::Value(const S&)> get;
    std::string takes, does;

    bool changed(const S& s) const { return io::to_json(get(s)) != io::to_json(get(S())); }
};
template <class S>
using Fields = std::vector<Field<S>>;

template <class T>
using Named = std::vector<std::pair<std::string, T>>;

// A member of the table's struct, const or not: the argument of its rows.
#define DEEPLAB_MEMBER(path) \
    [](auto& s) -> auto& { return s.path; }

template <class S>
class Table {
public:
    template <class M, class Range>
    void number(const char* name, M member, Range range, const char* does, Traits traits = {}) {
        using T = std::decay_t<decltype(member(std::declval<S&>()))>;
        const std::string takes = range.text();
        add({traits, name,
             [=](S& s, const Item& i) { member(s) = range.template take<T>(i, takes); },
             [=](const S& s) { return Range::value(member(s)); }, takes, does});
    }
    // An array of them.
    template <class M, class Range>
    void numbers(const char* name, M member, Range range, const char* does, Traits traits = {}) {
        using List = std::decay_t<decltype(member(std::declval<S&>()))>;
        constexpr std::size_t size = std::tuple_size_v<List>;
        const std::string takes = range.text(size);
        add({traits, name,
             [=](S& s, const Item& i) {
                 const io::Array& values = list(i, size, takes);
                 for (std::size_t k = 0; k < size; ++k) {
                     member(s)[k] = range.template take<typename List::value_type>(
                         {values[k], i.name, i.where}, takes);
                 }
             },
             [=](const S& s) {
                 io::Array values;
                 for (const auto v : member(s)) values.push_back(Range::value(v));
                 return io::Value(values);
             },
             takes, does});
    }
    template <class M>
    void flag(const char* name, M member, const char* does, Traits traits = {}) {
        const std::string takes = "true or false";
        add({traits, name,
             [=](S& s, const Item& i) {
                 const bool* v = i.value.get_if<bool>();
                 if (v == nullptr) i.wrong(takes);
                 member(s) = *v;
             },
             [=](const S& s) { return io::Value(bool{member(s)}); }, takes, does});
    }
    template <class M>
    void text(const char* name, M member, const std::string& takes, const char* does,
              Traits traits = {}) {
        add({traits, name, [=](S& s, const Item& i) { member(s) = word(i, takes); },
             [=](const S& s) { return io::Value(std::string(member(s))); }, takes, does});
    }
    // One of a few words or integers.
    template <class M, class T>
    void choice(const char* name, M member, const std::vector<T>& values, const char* does,
                Traits traits = {}) {
        std::string takes;
        for (const T& v : values) takes += (takes.empty() ? "one of " : ", ") + io::to_json(v);
        add({traits, name,
             [=](S& s, const Item& i) {
                 for (const T& v : values)
                     if (io::to_json(v) == io::to_json(i.value)) return void(member(s) = v);
                 refuse_choice(i, takes);
             },
             [=](const S& s) { return io::Value(member(s)); }, takes, does});
    }
    // One of a few words, each of which stands for a value.
    template <class M, class T>
    void choice(const char* name, M member, const Named<T>& words, const char* does,
                Traits traits = {}) {
        std::string takes;
        for (const auto& w : words)
            takes += (takes.empty() ? "one of " : ", ") + io::to_json(w.first);
        add({traits, name,
             [=](S& s, const Item& i) {
                 const auto* given = i.value.template get_if<std::string>();
                 for (const auto& [w, v] : words)
                     if (given != nullptr && w == *given) return void(member(s) = v);
                 refuse_choice(i, takes);
             },
             [=](const S& s) {
                 for (const auto& [w, v] : words)
                     if (v == member(s)) return io::Value(w);
                 throw LogicError("a field holds a value without a word");
             },
             takes, does});
    }
    void add(Field<S> field) { fields_.push_back(std::move(field)); }

    Fields<S> fields() && { return std::move(fields_); }

private:
    Fields<S> fields_;
};

}  // namespace deeplab::config
