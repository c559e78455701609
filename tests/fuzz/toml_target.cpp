// TOML: a whole text, and a single value as after --set key=.

#include "deeplab/base/error.h"
#include "deeplab/io/value.h"
#include "fuzz/target.h"

namespace deeplab::fuzz {
namespace {

std::string written(const io::Value& table) {
    const io::Object* object = table.get_if<io::Object>();
    require(object != nullptr, "a TOML text is a table");
    return io::to_toml(*object);
}

}  // namespace

void consume(std::span<const std::uint8_t> input) {
    const std::string text = text_of(input);
    try {
        io::to_json(io::parse_toml_value(text));
    } catch (const Error&) {
    }
    const std::string once = written(io::parse_toml(text, "fuzz"));
    require(written(io::parse_toml(once, "written")) == once, "what was written is read back");
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (const char* text :
         {"a = 1\nb = \"text\\u00e4\\n\"\nc = [1, 2.5, [true, false]]\n",
          "[one]\nx = {y = 1, z.w = -0.5e-3}\n[[two]]\nk = 'literal'\n[[two]]\n\"quoted key\" = "
          "3\n",
          "a.b.c = 0x1F\nd = 1_000\ne = inf\nf = -nan\ng = \"\"\"\nlines\\\n  joined\"\"\"\n",
          "day = 1979-05-27T07:32:00Z\n", "resnet18", "[256, 1026]", "# only a comment\n", ""}) {
        all.push_back(bytes_of(text));
    }
    std::string deep = "a";
    for (int i = 0; i < 300; ++i) deep += ".a";
    all.push_back(bytes_of(deep + " = 1\n"));
    all.push_back(bytes_of("a = " + std::string(300, '[') + std::string(300, ']')));
    return all;
}

std::vector<std::string> dictionary() {
    return {"[[",   "]]",  "{",      "}",    " = ",        "\n",    "\"\"\"", "'''", "\\u00e4",
            "true", "inf", "0x7fff", "1e99", "1979-05-27", "00:00", "a.b",    "#",   ","};
}

}  // namespace deeplab::fuzz
