#include "deeplab/config/fields.h"

#include <charconv>
#include <iterator>

#include "deeplab/base/text.h"

namespace deeplab::config {

namespace {

// "a number in", "three numbers in".
std::string counted(std::size_t count, const char* one, const char* several) {
    constexpr const char* words[] = {"no", "", "two", "three", "four"};
    if (count == 1) return one;
    return cat(count < std::size(words) ? words[count] : std::to_string(count), " ", several);
}

std::string with_zero(const std::string& text, const char* zero) {
    return *zero == '\0' ? text : cat(text, ", or 0 ", zero);
}

}  // namespace

WrongValue::WrongValue(const Item& item, const std::string& expected)
    : UsageError(cat(item.name, " is not ", expected, " (", item.where,
                     ") — the run would not be the one you meant — give ", item.name, " ",
                     expected)),
      takes(expected) {}

void Item::wrong(const std::string& takes) const { throw WrongValue(*this, takes); }

void refuse_choice(const Item& item, const std::string& takes) {
    if (item.value.is<std::string>()) throw UnknownWord(item, takes);
    item.wrong(takes);
}

bool Real::holds(double value) const {
    if (*zero != '\0' && value == 0) return true;
    const bool above = ends == Ends::high ? value > low : value >= low,
               below = ends == Ends::low ? value < high : value <= high;
    return above && below;  // false for a NaN
}

std::string Real::text(std::size_t count) const {
    const std::string numbers = counted(count, "a number", "numbers");
    if (high >= Real().high) {
        return with_zero(cat(numbers, ends == Ends::high ? " above " : " not below ", low), zero);
    }
    return with_zero(cat(numbers, " in ", ends == Ends::high ? "(" : "[", low, ", ", high,
                         ends == Ends::low ? ")" : "]"),
                     zero);
}

double Real::number(const Item& item, const std::string& takes) const {
    const auto* real = item.value.get_if<double>();
    const auto* whole = item.value.get_if<std::int64_t>();
    if (real == nullptr && whole == nullptr) item.wrong(takes);
    const double value = real != nullptr ? *real : static_cast<double>(*whole);
    if (!holds(value)) item.wrong(takes);
    return value;
}

io::Value Real::value(float v) {
    char buffer[64];
    const auto end = std::to_chars(std::begin(buffer), std::end(buffer), v).ptr;
    double result = 0;
    std::from_chars(buffer, end, result);
    return static_cast<float>(result) == v ? result : static_cast<double>(v);
}

std::string Whole::text(std::size_t count) const {
    const bool open = high >= Whole().high;
    if (open && low == 1)
        return with_zero(counted(count, "a positive integer", "positive integers"), zero);
    const std::string numbers = counted(count, "an integer", "integers");
    return with_zero(
        open ? cat(numbers, " not below ", low) : cat(numbers, " from ", low, " to ", high), zero);
}

std::int64_t Whole::number(const Item& item, const std::string& takes) const {
    const auto* value = item.value.get_if<std::int64_t>();
    if (value == nullptr) item.wrong(takes);
    const bool is_zero = *zero != '\0' && *value == 0;
    if (!is_zero && (*value < low || *value > high)) item.wrong(takes);
    return *value;
}

std::string word(const Item& item, const std::string& takes) {
    const auto* v = item.value.get_if<std::string>();
    if (v == nullptr || v->empty()) item.wrong(takes);
    return *v;
}

const io::Array& list(const Item& item, std::size_t size, const std::string& takes) {
    const auto* v = item.value.get_if<io::Array>();
    if (v == nullptr || v->size() != size) item.wrong(takes);
    return *v;
}

}  // namespace deeplab::config
