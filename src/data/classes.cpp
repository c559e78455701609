#include <algorithm>
#include <array>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/data/shard.h"
#include "deeplab/io/value.h"

namespace deeplab::data {
namespace {

// The colour map of the PASCAL VOC development kit (VOClabelcolormap): the bits of the index, three
// at a time, become the high bits of red, green and blue.
io::Rgb voc_color(int index) {
    int r = 0, g = 0, b = 0;
    for (int shift = 7; index != 0; --shift, index >>= 3) {
        r |= (index & 1) << shift;
        g |= (index >> 1 & 1) << shift;
        b |= (index >> 2 & 1) << shift;
    }
    return {static_cast<std::uint8_t>(r), static_cast<std::uint8_t>(g),
            static_cast<std::uint8_t>(b)};
}

// Reads one --classes file; every message names file and line.
class ClassFile {
public:
    explicit ClassFile(const std::filesystem::path& path) : name_(path.string()) {}

    ClassTable read(const std::filesystem::path& path) const {
        const io::Value root = io::parse_toml(read_text(path), name_);
        const io::Object* top = root.get_if<io::Object>();
        if (top == nullptr) fail(root.line, "the file is not a table", "write [[class]] tables");
        ClassTable table;
        const io::Value* list = nullptr;
        for (const auto& [key, value] : top->members()) {
            if (key == "ignore") {
                table.ignore = static_cast<int>(byte(value, "ignore"));
            } else if (key == "class") {
                list = &value;
            } else {
                unknown(key, value.line, {"ignore", "class"});
            }
        }
        const io::Array* entries = list != nullptr ? list->get_if<io::Array>() : nullptr;
        if (entries == nullptr || entries->empty())
            fail(list != nullptr ? list->line : 0, "there is no class",
                 "add one [[class]] table for each label");
        for (const io::Value& entry : *entries)
            table.classes.push_back(read_class(entry, static_cast<int>(table.classes.size())));
        check(table, *entries);
        return table;
    }

private:
    [[noreturn]] void fail(int line, const std::string& what, const std::string& remedy) const {
        throw UsageError(cat(what, " (", name_, line > 0 ? cat(", line ", line) : std::string(),
                             ") — ", "labels have no meaning without a valid list of classes — ",
                             remedy));
    }

    [[noreturn]] void unknown(const std::string& key, int line,
                              const std::vector<std::string>& known) const {
        const std::string near = nearest(key, known);
        fail(line, cat("unknown key \"", key, "\""),
             near.empty() ? "valid keys: ignore, and name and color in [[class]]"
                          : cat("did you mean \"", near, "\"?"));
    }

    std::int64_t byte(const io::Value& value, const std::string& key) const {
        const std::int64_t* number = value.get_if<std::int64_t>();
        if (number == nullptr || *number < 0 || *number > 255)
            fail(value.line, cat("\"", key, "\" must be an integer in 0..255"),
                 "correct the value");
        return *number;
    }

    ClassInfo read_class(const io::Value& entry, int index) const {
        const io::Object* object = entry.get_if<io::Object>();
        if (object == nullptr)
            fail(entry.line, "\"class\" must be a list of tables", "write [[class]]");
        ClassInfo info{"", voc_color(index), false};
        for (const auto& [key, value] : object->members()) {
            if (key == "name") {
                const std::string* text = value.get_if<std::string>();
                if (text == nullptr || text->empty())
                    fail(value.line, "\"name\" must be a text that is not empty",
                         "correct the value");
                info.name = *text;
            } else if (key == "color") {
                const io::Array* rgb = value.get_if<io::Array>();
                if (rgb == nullptr || rgb->size() != 3)
                    fail(value.line, "\"color\" must be three integers in 0..255",
                         "write color = [r, g, b]");
                std::array<std::uint8_t, 3> c{};
                for (std::size_t i = 0; i < 3; ++i)
                    c[i] = static_cast<std::uint8_t>(byte((*rgb)[i], "color"));
                info.color = {c[0], c[1], c[2]};
                info.has_color = true;
            } else {
                unknown(key, value.line, {"name", "color"});
            }
        }
        if (info.name.empty())
            fail(entry.line, cat("class ", index, " has no name"), "add name = \"…\"");
        return info;
    }

    void check(const ClassTable& table, const io::Array& entries) const {
        const auto count = static_cast<int>(table.classes.size());
        if (count > 255)
            fail(0, cat("there are ", count, " classes, at most 255 fit a mask of bytes"),
                 "merge some");
        if (table.ignore < count)
            fail(0,
                 cat("ignore = ", table.ignore, " is also the label of class \"",
                     table.classes[static_cast<std::size_t>(table.ignore)].name, "\""),
                 cat("choose a value in ", count, "..255"));
        for (std::size_t i = 0; i < table.classes.size(); ++i)
            for (std::size_t j = 0; j < i; ++j) {
                const ClassInfo &a = table.classes[j], &b = table.classes[i];
                if (a.name == b.name)
                    fail(entries[i].line, cat("two classes are called \"", b.name, "\""),
                         "rename one");
                if (a.has_color && b.has_color && a.color == b.color)
                    fail(entries[i].line,
                         cat("\"", a.name, "\" and \"", b.name, "\" have the same colour"),
                         "change one");
            }
    }

    std::string name_;
};

}  // namespace

std::vector<io::Rgb> ClassTable::palette() const {
    std::vector<io::Rgb> colors(256);
    for (std::size_t i = 0; i < colors.size(); ++i)
        colors[i] = i < classes.size() ? classes[i].color : voc_color(static_cast<int>(i));
    return colors;
}

ClassTable voc_classes() {
    ClassTable table;
    for (const char* name :
         {"background", "aeroplane", "bicycle",     "bird",  "boat",        "bottle", "bus",
          "car",        "cat",       "chair",       "cow",   "diningtable", "dog",    "horse",
          "motorbike",  "person",    "pottedplant", "sheep", "sofa",        "train",  "tvmonitor"})
        table.classes.push_back({name, voc_color(static_cast<int>(table.classes.size())), true});
    return table;
}

ClassTable load_classes(const std::filesystem::path& toml) { return ClassFile(toml).read(toml); }

}  // namespace deeplab::data
