#include <algorithm>
#include <array>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/data/category_map.h"
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

// Reads one file of --classes or --map; every message names file and line.
class ClassFileReader {
public:
    ClassFileReader(const std::filesystem::path& path, bool is_map)
        : name_(path.string()), is_map_(is_map) {}

    ClassFile read_classes(const std::filesystem::path& path) {
        return with_values(read_table(path));
    }

    CategoryMap read_map(const std::filesystem::path& path) {
        CategoryMap map{read_table(path), std::move(categories_), std::move(ignored_categories_)};
        const auto count = static_cast<int>(map.classes.classes.size());
        if (ignored_.size() != 1 || ignored_[0] < count)
            fail(ignore_line_, "\"ignore\" must be one value that is no class",
                 cat("choose one in ", count, "..255"));
        map.classes.ignore = ignored_[0];
        for (std::size_t c = 1; c < map.labels.size(); ++c)
            if (map.labels[c].empty())
                fail(0, cat("class \"", map.classes.classes[c].name, "\" lists no category"),
                     "add labels = [\"…\"]; only the first class may be what no category covers");
        return map;
    }

private:
    ClassTable read_table(const std::filesystem::path& path) {
        const io::Value root = io::parse_toml(read_text(path), name_);
        const io::Object* top = root.get_if<io::Object>();
        if (top == nullptr) fail(root.line, "the file is not a table", "write [[class]] tables");
        ClassTable table;
        const io::Value* list = nullptr;
        for (const auto& [key, value] : top->members()) {
            if (key == "ignore") {
                read_ignore(value);
            } else if (key == "ignore_colors" && !is_map_) {
                read_void_colors(value);
            } else if (key == "ignore_labels" && is_map_) {
                ignored_categories_ = categories(value, key);
            } else if (key == "class") {
                list = &value;
            } else {
                unknown(key, value.line,
                        {"ignore", is_map_ ? "ignore_labels" : "ignore_colors", "class"});
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

    [[noreturn]] void fail(int line, const std::string& what, const std::string& remedy) const {
        throw UsageError(cat(what, " (", name_, line > 0 ? cat(", line ", line) : std::string(),
                             ") — ", "labels have no meaning without a valid list of classes — ",
                             remedy));
    }

    [[noreturn]] void unknown(const std::string& key, int line,
                              const std::vector<std::string>& known) const {
        const std::string near = nearest(key, known);
        const char*
            all = is_map_
                      ? "valid keys: ignore, ignore_labels, and name, color and labels in [[class]]"
                      : "valid keys: ignore, ignore_colors, and name, color and label in [[class]]";
        fail(line, cat("unknown key \"", key, "\""),
             near.empty() ? std::string(all) : cat("did you mean \"", near, "\"?"));
    }

    std::vector<CategoryLabel> categories(const io::Value& value, const std::string& key) const {
        std::vector<CategoryLabel> out;
        const auto no_list = [&](int line) {
            fail(line, cat("\"", key, "\" must be a list of categories' names or ids"),
                 cat("write ", key, " = [\"person\"] or ", key, " = [1]"));
        };
        const io::Array* list = value.get_if<io::Array>();
        if (list == nullptr) no_list(value.line);
        for (const io::Value& one : *list) {
            const std::int64_t* id = one.get_if<std::int64_t>();
            const std::string* name = one.get_if<std::string>();
            if (id == nullptr && (name == nullptr || name->empty())) no_list(one.line);
            out.push_back({id != nullptr ? *id : 0, name != nullptr ? *name : "", one.line});
        }
        return out;
    }

    std::int64_t byte(const io::Value& value, const std::string& key) const {
        const std::int64_t* number = value.get_if<std::int64_t>();
        if (number == nullptr || *number < 0 || *number > 255)
            fail(value.line, cat("\"", key, "\" must be an integer in 0..255"),
                 "correct the value");
        return *number;
    }

    io::Rgb rgb(const io::Value& value, const std::string& key) const {
        const io::Array* parts = value.get_if<io::Array>();
        if (parts == nullptr || parts->size() != 3)
            fail(value.line, cat("\"", key, "\" must be three integers in 0..255"),
                 key == "color" ? "write color = [r, g, b]"
                                : "write ignore_colors = [[r, g, b], …]");
        std::array<std::uint8_t, 3> c{};
        for (std::size_t i = 0; i < 3; ++i)
            c[i] = static_cast<std::uint8_t>(byte((*parts)[i], key));
        return {c[0], c[1], c[2]};
    }

    void read_ignore(const io::Value& value) {
        ignore_line_ = value.line;
        ignored_.clear();
        const io::Array* several = value.get_if<io::Array>();
        if (several != nullptr)
            for (const io::Value& one : *several)
                ignored_.push_back(static_cast<int>(byte(one, "ignore")));
        else
            ignored_.push_back(static_cast<int>(byte(value, "ignore")));
        if (ignored_.empty())
            fail(value.line, "\"ignore\" is an empty list",
                 "name a value that no class has, such as 255");
    }

    void read_void_colors(const io::Value& value) {
        const io::Array* list = value.get_if<io::Array>();
        if (list == nullptr || list->empty())
            fail(value.line, "\"ignore_colors\" must be a list of colours",
                 "write ignore_colors = [[r, g, b], …]");
        for (const io::Value& color : *list) void_colors_.push_back(rgb(color, "ignore_colors"));
    }

    ClassInfo read_class(const io::Value& entry, int index) {
        const io::Object* object = entry.get_if<io::Object>();
        if (object == nullptr)
            fail(entry.line, "\"class\" must be a list of tables", "write [[class]]");
        ClassInfo info{"", voc_color(index), false};
        std::vector<CategoryLabel> labels;
        for (const auto& [key, value] : object->members()) {
            if (key == "name") {
                const std::string* text = value.get_if<std::string>();
                if (text == nullptr || text->empty())
                    fail(value.line, "\"name\" must be a text that is not empty",
                         "correct the value");
                info.name = *text;
            } else if (key == "color") {
                info.color = rgb(value, "color");
                info.has_color = true;
            } else if (key == "labels" && is_map_) {
                labels = categories(value, key);
            } else if (key == "label" && !is_map_) {
                labels_.resize(static_cast<std::size_t>(index), MaskValues::no_label);
                labels_.push_back(static_cast<int>(byte(value, "label")));
            } else {
                unknown(key, value.line, {"name", "color", is_map_ ? "labels" : "label"});
            }
        }
        if (info.name.empty())
            fail(entry.line, cat("class ", index, " has no name"), "add name = \"…\"");
        categories_.push_back(std::move(labels));
        return info;
    }

    void check(const ClassTable& table, const io::Array& entries) const {
        const auto count = static_cast<int>(table.classes.size());
        if (count > 255)
            fail(0, cat("there are ", count, " classes, at most 255 fit a mask of bytes"),
                 "merge some");
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
        for (std::size_t i = 0; i < table.classes.size(); ++i)
            for (const io::Rgb color : void_colors_)
                if (table.classes[i].has_color && table.classes[i].color == color)
                    fail(entries[i].line,
                         cat("the colour of \"", table.classes[i].name,
                             "\" is one of ignore_colors"),
                         "change one");
    }

    // The value of each class in the masks: its `label`; else its place, counted from 1 where 0 is
    // to be ignored.
    std::vector<int> values_of(const ClassTable& table) const {
        const auto count = static_cast<int>(table.classes.size());
        std::vector<int> values = labels_;
        if (!values.empty()) {
            values.resize(table.classes.size(), MaskValues::no_label);
            for (std::size_t c = 0; c < values.size(); ++c)
                if (values[c] == MaskValues::no_label)
                    fail(0, cat("class \"", table.classes[c].name, "\" has no label, others have"),
                         "give label = … to all classes or to none");
            return values;
        }
        const bool from_one = std::find(ignored_.begin(), ignored_.end(), 0) != ignored_.end();
        for (int c = 0; c < count; ++c) values.push_back(c + (from_one ? 1 : 0));
        return values;
    }

    ClassFile with_values(ClassTable table) {
        const std::vector<int> values = values_of(table);
        // A class may have the value that is ignored where the file says nothing of it.
        if (ignore_line_ == 0 && std::find(labels_.begin(), labels_.end(), 255) != labels_.end())
            ignored_.clear();
        const auto count = static_cast<int>(table.classes.size());
        const auto name = [&](std::size_t c) { return cat("\"", table.classes[c].name, "\""); };
        // Stored is one value to be ignored, that is no class.
        const bool one = ignored_.size() == 1 && ignored_[0] >= count;
        table.ignore = one ? ignored_[0] : 255;
        ClassFile out{table, MaskValues(table)};
        out.masks.labels.fill(MaskValues::no_label);
        for (std::size_t c = 0; c < values.size(); ++c) {
            if (values[c] > 255)
                fail(ignore_line_, "255 classes beside ignore = 0 do not fit a mask of bytes",
                     "merge some");
            int& label = out.masks.labels[static_cast<std::size_t>(values[c])];
            if (label != MaskValues::no_label)
                fail(0,
                     cat(name(static_cast<std::size_t>(label)), " and ", name(c),
                         " have the same label ", values[c]),
                     "change one");
            label = static_cast<int>(c);
        }
        for (const int value : ignored_) {
            int& label = out.masks.labels[static_cast<std::size_t>(value)];
            if (label != MaskValues::no_label && label != table.ignore)
                fail(ignore_line_,
                     cat("ignore = ", value, " is also the label of class ",
                         name(static_cast<std::size_t>(label))),
                     count < 255 ? cat("choose a value in ", count,
                                       "..255, or give every class the value that it has in the "
                                       "masks: label = …; with ignore = 0 classes count from 1")
                                 : std::string("merge some classes"));
            label = table.ignore;
        }
        out.masks.void_colors.insert(out.masks.void_colors.end(), void_colors_.begin(),
                                     void_colors_.end());
        return out;
    }

    std::string name_;
    std::vector<int> ignored_ = {255}, labels_;  // labels_: empty, or as far as the file has them
    int ignore_line_ = 0;
    std::vector<io::Rgb> void_colors_;
    bool is_map_;
    std::vector<std::vector<CategoryLabel>> categories_;  // of each class
    std::vector<CategoryLabel> ignored_categories_;
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

MaskValues::MaskValues(const ClassTable& classes) : labels{} {
    labels.fill(no_label);
    for (std::size_t c = 0; c < classes.classes.size(); ++c) labels[c] = static_cast<int>(c);
    const auto ignore = static_cast<std::size_t>(classes.ignore);
    labels[ignore] = classes.ignore;
    void_colors.push_back(classes.palette()[ignore]);
}

bool MaskValues::plain() const {
    for (std::size_t v = 0; v < labels.size(); ++v)
        if (labels[v] != no_label && labels[v] != static_cast<int>(v)) return false;
    return true;
}

ClassFile load_class_file(const std::filesystem::path& toml) {
    return ClassFileReader(toml, false).read_classes(toml);
}

CategoryMap load_category_map(const std::filesystem::path& toml) {
    return ClassFileReader(toml, true).read_map(toml);
}

ClassTable load_classes(const std::filesystem::path& toml) { return load_class_file(toml).classes; }

}  // namespace deeplab::data
