// The file of --classes.

#include "deeplab/data/shard.h"
#include "fuzz/target.h"

namespace deeplab::fuzz {

void consume(std::span<const std::uint8_t> input) {
    const auto path = scratch() / "classes.toml";
    store(path, input);
    const data::ClassFile file = data::load_class_file(path);
    const data::ClassTable& table = file.classes;
    const auto count = static_cast<int>(table.classes.size());
    require(count >= 1 && count <= 255, "labels are bytes");
    require(table.ignore >= count && table.ignore <= 255, "ignore is no class");
    require(table.palette().size() == 256, "a colour for every byte");
    require(file.masks.labels.size() >= 256 &&
                file.masks.labels.size() <= data::MaskValues::largest + 1,
            "masks have 8 or 16 bits");
    std::vector<int> values(static_cast<std::size_t>(count));
    for (const int label : file.masks.labels) {
        if (label == data::MaskValues::no_label || label == table.ignore) continue;
        require(label >= 0 && label < count, "a value's label is a class");
        ++values[static_cast<std::size_t>(label)];
    }
    for (std::size_t c = 0; c < values.size(); ++c) {
        const std::vector<int>& own = table.classes[c].labels;
        require(values[c] == static_cast<int>(own.empty() ? 1 : own.size()),
                "a class has the values that it lists");
    }
}

std::vector<Bytes> seeds() {
    std::string many;
    for (int i = 0; i < 256; ++i) many += "[[class]]\nname = \"" + std::to_string(i) + "\"\n";
    return {
        bytes_of("ignore = 255\n[[class]]\nname = \"ground\"\ncolor = [0, 0, 0]\n"
                 "[[class]]\nname = \"stripes\"\ncolor = [128, 0, 0]\n"),
        bytes_of(
            "ignore = [0, 255]\nignore_colors = [[1, 2, 3]]\n[[class]]\nname = \"a\"\nlabel = 9\n"),
        bytes_of("ignore_labels = [0, 300]\n[[class]]\nname = \"a\"\nlabels = [7, 65535]\n"),
        bytes_of("[[class]]\nname = 'one'\n"),
        bytes_of("class = [{name = \"a\"}]"),
        bytes_of(many)};
}

std::vector<std::string> dictionary() {
    return {"ignore = ", "[[class]]\n",      "name = ",         "color = ",
            "label = ",  "ignore_colors = ", "[0, 0, 0]",       "255",
            "\"a\"",     "labels = ",        "ignore_labels = "};
}

}  // namespace deeplab::fuzz
