// The file of --classes.

#include "deeplab/data/shard.h"
#include "fuzz/target.h"

namespace deeplab::fuzz {

void consume(std::span<const std::uint8_t> input) {
    const auto path = scratch() / "classes.toml";
    store(path, input);
    const data::ClassTable table = data::load_classes(path);
    const auto count = static_cast<int>(table.classes.size());
    require(count >= 1 && count <= 255, "labels are bytes");
    require(table.ignore >= count && table.ignore <= 255, "ignore is no class");
    require(table.palette().size() == 256, "a colour for every byte");
}

std::vector<Bytes> seeds() {
    std::string many;
    for (int i = 0; i < 256; ++i) many += "[[class]]\nname = \"" + std::to_string(i) + "\"\n";
    return {bytes_of("ignore = 255\n[[class]]\nname = \"ground\"\ncolor = [0, 0, 0]\n"
                     "[[class]]\nname = \"stripes\"\ncolor = [128, 0, 0]\n"),
            bytes_of("[[class]]\nname = 'one'\n"), bytes_of("class = [{name = \"a\"}]"),
            bytes_of(many)};
}

std::vector<std::string> dictionary() {
    return {"ignore = ", "[[class]]\n", "name = ", "color = ", "[0, 0, 0]", "255", "\"a\""};
}

}  // namespace deeplab::fuzz
