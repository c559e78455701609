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
                void_colors_ = colors(value, key);
            } else if (key == "ignore_labels") {
                ignored_labels_line_ = value.line;
                if (is_map_)
                    ignored_categories_ = categories(value, key);
                else
                    ignored_labels_ = mask_values(value, key);
            } else if (key == "class") {
                list = &value;
            } else {
                unknown(key, value.line,
                        {"ignore", "ignore_labels", is_map_ ? "class" : "ignore_colors", "class"});
            }
        }
        const io::Array* entries = list != nullptr ? list->get_if<io::Array>() : nullptr;
        if (entries == nullptr || entries->empty())
            fail(list != nullptr ? list->line : 0, "there is no class",
                 "add one [[class]] table for each label");
        for (const io::Value& entry : *entries)
            table.classes.push_back(read_class(entry, static_cast<int>(table.classes.size())));
        check(table);
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
                      : "valid keys: ignore, ignore_colors, ignore_labels, and name, color, "
                        "colors, label and labels in [[class]]";
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

    // A list of values of masks; none stands twice.
    std::vector<int> mask_values(const io::Value& value, const std::string& key) const {
        const io::Array* list = value.get_if<io::Array>();
        std::vector<int> out;
        for (const io::Value& one : list != nullptr ? *list : io::Array{}) {
            const int v = mask_value(one, key);
            if (std::find(out.begin(), out.end(), v) != out.end())
                fail(one.line, cat("\"", key, "\" has ", v, " twice"), "take one out");
            out.push_back(v);
        }
        if (out.empty())
            fail(value.line, cat("\"", key, "\" must be a list of values of the masks"),
                 cat("write ", key, " = [7, 8]"));
        return out;
    }

    int mask_value(const io::Value& value, const std::string& key) const {
        const std::int64_t* number = value.get_if<std::int64_t>();
        if (number == nullptr || *number < 0 || *number > MaskValues::largest)
            fail(value.line,
                 cat("\"", key, "\" must be ", key == "label" ? "an integer" : "integers",
                     " in 0..", MaskValues::largest),
                 value.is<std::string>() ? "write the value that masks have; names of categories "
                                           "are for deeplab-pack --map"
                                         : "correct the value");
        return static_cast<int>(*number);
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
                                : cat("write ", key, " = [[r, g, b], …]"));
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

    std::vector<io::Rgb> colors(const io::Value& value, const std::string& key) const {
        const io::Array* list = value.get_if<io::Array>();
        if (list == nullptr || list->empty())
            fail(value.line, cat("\"", key, "\" must be a list of colours"),
                 cat("write ", key, " = [[r, g, b], …]"));
        std::vector<io::Rgb> out;
        for (const io::Value& color : *list) out.push_back(rgb(color, key));
        return out;
    }

    ClassInfo read_class(const io::Value& entry, int index) {
        const io::Object* object = entry.get_if<io::Object>();
        if (object == nullptr)
            fail(entry.line, "\"class\" must be a list of tables", "write [[class]]");
        ClassInfo info{"", voc_color(index), false};
        std::vector<CategoryLabel> listed;
        std::vector<int> values;
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
            } else if (key == "colors" && !is_map_) {
                for (const io::Rgb color : colors(value, key))
                    more_colors_.emplace_back(color, index);
            } else if (key == "labels" && is_map_) {
                listed = categories(value, key);
            } else if ((key == "label" || key == "labels") && !is_map_) {
                if (!values.empty())
                    fail(value.line, cat("class ", index, " has label and labels"),
                         "put all of its values into labels");
                values = key == "labels" ? mask_values(value, key)
                                         : std::vector<int>{mask_value(value, key)};
            } else {
                unknown(key, value.line,
                        {"name", "color", "labels", is_map_ ? "labels" : "label",
                         is_map_ ? "color" : "colors"});
            }
        }
        if (!info.has_color && !more_colors_.empty() && more_colors_.back().second == index)
            fail(entry.line, cat("class ", index, " has colors and no color"),
                 "add color = [r, g, b]: the one that predictions get");
        if (info.name.empty())
            fail(entry.line, cat("class ", index, " has no name"), "add name = \"…\"");
        categories_.push_back(std::move(listed));
        values_.push_back(std::move(values));
        lines_.push_back(entry.line);
        return info;
    }

    void check(const ClassTable& table) const {
        const auto count = static_cast<int>(table.classes.size());
        if (count > 255)
            fail(0, cat("there are ", count, " classes, at most 255 fit a mask of bytes"),
                 "merge some");
        for (std::size_t i = 0; i < table.classes.size(); ++i)
            for (std::size_t j = 0; j < i; ++j)
                if (table.classes[j].name == table.classes[i].name)
                    fail(lines_[i], cat("two classes are called \"", table.classes[i].name, "\""),
                         "rename one");
        check_colors(table);
    }

    // Each colour of masks means one thing.
    void check_colors(const ClassTable& table) const {
        std::vector<std::pair<io::Rgb, int>> all;
        for (std::size_t c = 0; c < table.classes.size(); ++c)
            if (table.classes[c].has_color)
                all.emplace_back(table.classes[c].color, static_cast<int>(c));
        all.insert(all.end(), more_colors_.begin(), more_colors_.end());
        const auto name = [&](int c) {
            return cat("\"", table.classes[static_cast<std::size_t>(c)].name, "\"");
        };
        for (std::size_t i = 0; i < all.size(); ++i) {
            const auto [color, c] = all[i];
            const int line = lines_[static_cast<std::size_t>(c)];
            for (std::size_t j = 0; j < i; ++j)
                if (all[j].first == color)
                    fail(line,
                         all[j].second == c
                             ? cat(name(c), " has one colour twice")
                             : cat(name(all[j].second), " and ", name(c), " have the same colour"),
                         "change one");
            for (const io::Rgb ignored : void_colors_)
                if (ignored == color)
                    fail(line, cat("the colour of ", name(c), " is one of ignore_colors"),
                         "change one");
        }
    }

    // The values of each class in the masks: its `labels`; else its place, counted from 1 where 0
    // is to be ignored.
    std::vector<std::vector<int>> values_of(const ClassTable& table) const {
        std::vector<std::vector<int>> values = values_;
        const auto none = [](const std::vector<int>& v) { return v.empty(); };
        if (!std::all_of(values.begin(), values.end(), none)) {
            const auto missing = std::find_if(values.begin(), values.end(), none);
            if (missing == values.end()) return values;
            const auto c = static_cast<std::size_t>(missing - values.begin());
            fail(lines_[c], cat("class \"", table.classes[c].name, "\" has no label, others have"),
                 "give label = … to all classes or to none");
        }
        const bool from_one = std::find(ignored_.begin(), ignored_.end(), 0) != ignored_.end();
        for (std::size_t c = 0; c < values.size(); ++c)
            values[c] = {static_cast<int>(c) + (from_one ? 1 : 0)};
        return values;
    }

    ClassFile with_values(ClassTable table) {
        const std::vector<std::vector<int>> values = values_of(table);
        // A class may have the value that is ignored where the file says nothing of it.
        if (ignore_line_ == 0)
            for (const std::vector<int>& own : values_)
                if (std::find(own.begin(), own.end(), 255) != own.end()) ignored_.clear();
        // Stored is one value to be ignored, that is no class.
        const bool one = ignored_.size() == 1 &&
                         ignored_[0] >= static_cast<int>(table.classes.size());
        table.ignore = one ? ignored_[0] : 255;
        bool places = true;
        for (std::size_t c = 0; c < values.size(); ++c)
            places = places && values[c] == std::vector<int>{static_cast<int>(c)};
        for (std::size_t c = 0; c < values.size() && !places; ++c)
            table.classes[c].labels = values[c];
        ClassFile out{table, MaskValues(table)};
        set_labels(values, out);
        out.masks.more_colors = more_colors_;
        out.masks.void_colors.insert(out.masks.void_colors.end(), void_colors_.begin(),
                                     void_colors_.end());
        return out;
    }

    void set_labels(const std::vector<std::vector<int>>& values, ClassFile& out) const {
        const auto count = static_cast<int>(values.size());
        std::vector<int>& labels = out.masks.labels;
        std::fill(labels.begin(), labels.end(), MaskValues::no_label);
        const auto label_of = [&](int value) -> int& {
            const auto at = static_cast<std::size_t>(value);
            if (at >= labels.size()) labels.resize(at + 1, MaskValues::no_label);
            return labels[at];
        };
        const auto name = [&](int c) {
            return cat("\"", out.classes.classes[static_cast<std::size_t>(c)].name, "\"");
        };
        for (int c = 0; c < count; ++c)
            for (const int value : values[static_cast<std::size_t>(c)]) {
                int& label = label_of(value);
                if (label != MaskValues::no_label)
                    fail(lines_[static_cast<std::size_t>(c)],
                         cat(name(label), " and ", name(c), " have the same label ", value),
                         "change one");
                label = c;
            }
        const auto ignore = [&](int value, int line, const std::string& what,
                                const std::string& remedy) {
            int& label = label_of(value);
            if (label != MaskValues::no_label && label != out.classes.ignore)
                fail(line, cat(what, " is also the label of class ", name(label)), remedy);
            label = out.classes.ignore;
        };
        for (const int value : ignored_)
            ignore(value, ignore_line_, cat("ignore = ", value),
                   count < 255 ? cat("choose a value in ", count,
                                     "..255, or give every class the value that it has in the "
                                     "masks: label = …; with ignore = 0 classes count from 1")
                               : std::string("merge some classes"));
        for (const int value : ignored_labels_)
            ignore(value, ignored_labels_line_, cat("ignore_labels: ", value),
                   "a value is either a class's or ignored: take it out of one list");
    }

    std::string name_;
    std::vector<int> ignored_ = {255}, ignored_labels_;  // of `ignore` and of `ignore_labels`
    int ignore_line_ = 0, ignored_labels_line_ = 0;
    std::vector<std::vector<int>> values_;  // of each class: what `label` or `labels` says, or none
    std::vector<int> lines_;                // of each class in the file
    std::vector<io::Rgb> void_colors_;
    std::vector<std::pair<io::Rgb, int>> more_colors_;
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

MaskValues::MaskValues(const ClassTable& classes) : labels(256, no_label) {
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
