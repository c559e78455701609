#include "fuzz/hdf5_edits.h"

#include <algorithm>

#include "io/edited_hdf5.h"

namespace deeplab::fuzz {
namespace {

using deeplab::testing::Hdf5Editor;
using deeplab::testing::Hdf5Object;

template <class Choice>
Choice choose(FuzzedDataProvider& input, Choice last) {
    return static_cast<Choice>(input.ConsumeIntegralInRange(0, static_cast<int>(last)));
}

// Mostly small: what lies near the right value gets furthest.
std::int64_t free_number(FuzzedDataProvider& input) {
    return input.ConsumeIntegralInRange(0, 3) != 3 ? input.ConsumeIntegralInRange(-2, 300)
                                                   : input.ConsumeIntegral<std::int64_t>();
}

Hdf5Object free_object(FuzzedDataProvider& input) {
    Hdf5Object object;
    object.kind = choose(input, Hdf5Object::Kind::external_link);
    object.type = choose(input, Hdf5Object::Type::opaque);
    object.space = input.ConsumeIntegralInRange(0, 7) == 7 ? Hdf5Object::Space::null
                   : input.ConsumeBool()                   ? Hdf5Object::Space::scalar
                                                           : Hdf5Object::Space::simple;
    object.layout = choose(input, Hdf5Object::Layout::external);
    object.text_size = input.ConsumeIntegralInRange<std::size_t>(1, 70000);
    object.extents.resize(input.ConsumeIntegralInRange<std::size_t>(1, 5));
    for (auto& extent : object.extents)
        extent = static_cast<std::uint64_t>(std::max<std::int64_t>(free_number(input), 0));
    object.target = free_text(input, 16);
    object.content = input.ConsumeBytes<std::uint8_t>(
        input.ConsumeIntegralInRange<std::size_t>(0, 64));
    return object;
}

}  // namespace

std::string free_text(FuzzedDataProvider& input, std::size_t longest) {
    std::string text = input.ConsumeRandomLengthString(longest);
    std::replace(text.begin(), text.end(), '\0', '0');
    return text;
}

void apply_edits(FuzzedDataProvider& input, const std::filesystem::path& file,
                 std::span<const std::string> names) {
    const int edits = input.ConsumeIntegralInRange(0, 4);
    if (edits == 0) return;
    Hdf5Editor editor(file);
    for (int i = 0; i < edits; ++i) {
        std::string name = names[input.ConsumeIntegralInRange<std::size_t>(0, names.size() - 1)];
        if (name.ends_with('/')) name += free_text(input, 16);
        switch (input.ConsumeIntegralInRange(0, 3)) {
            case 0:
            case 1: {
                const auto index = input.ConsumeIntegralInRange<std::uint64_t>(0, 15);
                editor.poke(name, index, free_number(input));
                break;
            }
            case 2: editor.replace(name, free_object(input)); break;
            default: editor.remove(name); break;
        }
    }
}

}  // namespace deeplab::fuzz
