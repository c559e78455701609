#include "instances.h"

#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/io/json_events.h"
#include "segmentation.h"

namespace deeplab::preprocess::coco {
namespace {

enum class Section { none, pictures, annotations, categories };
constexpr std::array<std::string_view, 4> kSections = {"", "images", "annotations", "categories"};
constexpr std::array<std::string_view, 4> kEntries = {"", "image", "annotation", "category"};

// The members that are read, of all three kinds of entries.
enum Field {
    id,
    file_name,
    width,
    height,
    image_id,
    category_id,
    area,
    iscrowd,
    name,
    segmentation,
    field_count
};
constexpr std::array<std::string_view, field_count> kFields = {
    "id",          "file_name", "width",   "height", "image_id",
    "category_id", "area",      "iscrowd", "name",   "segmentation"};

std::vector<Field> needed(Section section) {
    switch (section) {
        case Section::pictures: return {id, file_name, width, height};
        case Section::annotations: return {id, image_id, category_id};
        case Section::categories: return {id, name};
        case Section::none: break;
    }
    return {};
}

// Which member of an entry is read: file_name and name differ, "area" of an image is nobody's.
bool belongs(Field field, Section section) {
    switch (field) {
        case id: return true;
        case file_name:
        case width:
        case height: return section == Section::pictures;
        case name: return section == Section::categories;
        default: return section == Section::annotations;
    }
}

// Depths of the containers that are open: the file's table, a section's list, an entry, its
// segmentation, and a polygon or a list of run lengths. What is of no interest is passed over.
class Reader : public io::JsonEvents {
public:
    explicit Reader(std::string file) : file_(std::move(file)) {}

    void null() override { scalar("null"); }
    void boolean(bool value) override {
        if (wanted(iscrowd))
            entry_.crowd = value;
        else
            scalar("true or false");
    }
    void integer(std::int64_t value) override;
    void number(double value) override;
    void text(std::string& value) override;
    void key(std::string& key) override;
    void start_object() override { start(true); }
    void end_object() override { end(); }
    void start_array() override { start(false); }
    void end_array() override { end(); }

    Instances take();

private:
    struct Entry {
        std::int64_t id = 0, width = 0, height = 0, picture = 0, category = 0;
        double area = std::numeric_limits<double>::quiet_NaN();
        std::string text;  // file_name or name
        bool crowd = false;
        std::array<bool, field_count> seen{}, good{};
        std::vector<std::string> problems;
    };

    [[noreturn]] void refuse(const std::string& what) const {
        throw DataError(cat(what, " (", file_,
                            ") — a file of COCO's instances has the lists images, annotations and "
                            "categories — give --coco such a file"));
    }
    void start(bool object);
    void end();
    void start_in_segmentation(bool object);
    void scalar(const char* what);
    void start_entry();
    void end_entry();
    void end_annotation(const std::string& record);
    void problem(const std::string& record, const std::string& reason);
    bool wanted(Field field) const { return skipped_ == 0 && depth_ == 3 && field_ == field; }
    void wrong_type(const char* what) {
        entry_.problems.push_back(
            cat("\"", kFields[static_cast<std::size_t>(field_)], "\" is ", what));
    }
    void set_good() { entry_.good[static_cast<std::size_t>(field_)] = true; }

    std::string file_;
    Instances out_;
    int depth_ = 0, skipped_ = 0;  // open containers of interest, and within one that is of none
    Section section_ = Section::none;
    std::array<bool, 4> sections_{};
    std::array<std::int64_t, 4> entries_{};  // begun
    Entry entry_;
    Field field_ = field_count;  // of the value that comes next; field_count: of no interest
    Segmentation segmentation_;
    std::string member_;  // of a segmentation of run lengths
    bool runs_ = false;
};

void Reader::problem(const std::string& record, const std::string& reason) {
    if (out_.problems.size() < kMostProblems) out_.problems.push_back({record, reason});
}

void Reader::key(std::string& key) {
    if (skipped_ > 0) return;
    if (depth_ == 1) {
        section_ = Section::none;
        for (std::size_t s = 1; s < kSections.size(); ++s)
            if (key == kSections[s]) section_ = static_cast<Section>(s);
        const auto s = static_cast<std::size_t>(section_);
        if (section_ != Section::none && sections_[s])
            refuse(cat("the list \"", key, "\" stands twice"));
        if (section_ != Section::none) sections_[s] = true;
    } else if (depth_ == 3) {
        field_ = field_count;
        for (std::size_t f = 0; f < kFields.size(); ++f)
            if (key == kFields[f] && belongs(static_cast<Field>(f), section_))
                field_ = static_cast<Field>(f);
        if (field_ == field_count) return;
        const auto f = static_cast<std::size_t>(field_);
        if (entry_.seen[f]) entry_.problems.push_back(cat("\"", kFields[f], "\" stands twice"));
        entry_.seen[f] = true;
    } else {
        member_ = std::move(key);
    }
}

void Reader::start(bool object) {
    if (skipped_ > 0) {
        ++skipped_;
        return;
    }
    switch (depth_) {
        case 0:
            if (!object) refuse("the file is a list");
            ++depth_;
            return;
        case 1:
            if (section_ != Section::none && object)
                refuse(cat("\"", kSections[static_cast<std::size_t>(section_)], "\" is no list"));
            section_ == Section::none ? ++skipped_ : ++depth_;
            return;
        case 2:
            start_entry();
            if (!object) entry_.problems.emplace_back("it is a list, not a table");
            object ? ++depth_ : ++skipped_;
            if (!object) end_entry();
            return;
        case 3:
            if (field_ == segmentation) {
                ++depth_;
                runs_ = object;
                object ? segmentation_.start_runs() : segmentation_.start_polygons();
                return;
            }
            if (field_ != field_count) wrong_type(object ? "a table" : "a list");
            ++skipped_;
            return;
        default: start_in_segmentation(object); return;
    }
}

void Reader::start_in_segmentation(bool object) {
    const bool list = depth_ == 4 && !object;
    if (list && !runs_) {
        segmentation_.start_polygon();
        ++depth_;
    } else if (list && member_ == "counts") {
        segmentation_.start_counts();
        ++depth_;
    } else if (list && member_ == "size") {
        segmentation_.start_size();
        ++depth_;
    } else {
        if (!runs_ || member_ == "counts" || member_ == "size")
            segmentation_.wrong(cat(object ? "a table" : "a list",
                                    " stands in its segmentation where numbers are expected"));
        ++skipped_;
    }
}

void Reader::end() {
    if (skipped_ > 0) {
        --skipped_;
        return;
    }
    if (depth_ == 5) runs_ ? segmentation_.end_list() : segmentation_.end_polygon();
    if (depth_ == 4) set_good();
    if (depth_ == 3) end_entry();
    --depth_;
}

// A value that is none of those a member may have.
void Reader::scalar(const char* what) {
    if (skipped_ > 0) return;
    switch (depth_) {
        case 0: refuse(cat("the file is ", what));
        case 1:
            if (section_ != Section::none)
                refuse(cat("\"", kSections[static_cast<std::size_t>(section_)], "\" is ", what));
            return;
        case 2:
            start_entry();
            entry_.problems.push_back(cat("it is ", what, ", not a table"));
            end_entry();
            return;
        case 3:
            if (field_ == segmentation)
                segmentation_.wrong(cat("its segmentation is ", what));
            else if (field_ != field_count)
                wrong_type(what);
            return;
        default:
            if (!runs_ && depth_ == 4)
                segmentation_.wrong(cat(what, " stands where a list of polygons was expected"));
            else if (!runs_ || depth_ == 5 || member_ == "counts" || member_ == "size")
                segmentation_.wrong(
                    cat(what, " stands in its segmentation where numbers are expected"));
    }
}

void Reader::integer(std::int64_t value) {
    if (skipped_ == 0 && depth_ == 5) return segmentation_.integer(value);
    if (skipped_ > 0 || depth_ != 3) return scalar("a number");
    switch (field_) {
        case id: entry_.id = value; break;
        case width: entry_.width = value; break;
        case height: entry_.height = value; break;
        case image_id: entry_.picture = value; break;
        case category_id: entry_.category = value; break;
        case area: return number(static_cast<double>(value));
        case iscrowd:
            if (value != 0 && value != 1) return wrong_type("neither 0 nor 1");
            entry_.crowd = value == 1;
            break;
        default: return scalar("a number");
    }
    set_good();
}

void Reader::number(double value) {
    constexpr double exact = 9007199254740992;  // 2^53
    if (skipped_ == 0 && depth_ == 5) return segmentation_.number(value);
    if (skipped_ > 0 || depth_ != 3) return scalar("a number");
    if (field_ == area) {
        if (!(std::isfinite(value) && value >= 0)) return wrong_type("negative");
        entry_.area = value;
        return set_good();
    }
    // Some writers give every number a point.
    if (std::floor(value) == value && std::abs(value) < exact)
        return integer(static_cast<std::int64_t>(value));
    scalar(field_ == file_name || field_ == name ? "a number" : "not a whole number");
}

void Reader::text(std::string& value) {
    if (wanted(file_name) || wanted(name)) {
        entry_.text = std::move(value);
        return set_good();
    }
    if (skipped_ == 0 && depth_ == 4 && runs_ && member_ == "counts")
        return segmentation_.counts(value);
    scalar("a text");
}

void Reader::start_entry() {
    ++entries_[static_cast<std::size_t>(section_)];
    entry_ = {};
    segmentation_.start();
}

void Reader::end_entry() {
    const auto s = static_cast<std::size_t>(section_);
    const std::string record = entry_.good[id] ? cat(kEntries[s], " ", entry_.id)
                                               : cat(kSections[s], "[", entries_[s] - 1, "]");
    if (entry_.problems.empty())
        for (const Field field : needed(section_))
            if (!entry_.good[static_cast<std::size_t>(field)])
                entry_.problems.push_back(
                    cat("it has no \"", kFields[static_cast<std::size_t>(field)], "\""));
    for (const std::string& reason : entry_.problems) problem(record, reason);
    if (!entry_.problems.empty()) return;
    switch (section_) {
        case Section::pictures:
            out_.pictures.push_back(
                {entry_.id, entry_.width, entry_.height, std::move(entry_.text)});
            break;
        case Section::categories:
            out_.categories.push_back({entry_.id, std::move(entry_.text)});
            break;
        default: end_annotation(record);
    }
}

void Reader::end_annotation(const std::string& record) {
    Annotation a;
    a.id = entry_.id;
    a.picture = entry_.picture;
    a.category = entry_.category;
    a.area = entry_.area;
    a.crowd = entry_.crowd;
    a.shape = out_.shapes.size();
    if (const std::string reason = segmentation_.finish(out_.shapes); !reason.empty()) {
        if (out_.shape_problems.size() < kMostProblems)
            out_.shape_problems.push_back({out_.annotations.size(), reason});
    }
    const std::uint64_t bytes = out_.shapes.size() - a.shape;
    if (bytes > std::numeric_limits<std::uint32_t>::max())
        return problem(record, "its segmentation has more than 4 GiB");
    a.shape_bytes = static_cast<std::uint32_t>(bytes);
    out_.annotations.push_back(a);
}

Instances Reader::take() {
    for (std::size_t s = 1; s < kSections.size(); ++s)
        if (!sections_[s]) refuse(cat("the file has no list \"", kSections[s], "\""));
    return std::move(out_);
}

}  // namespace

Instances read_instances(const std::filesystem::path& file) {
    Reader reader(file.string());
    io::read_json(file, reader);
    return reader.take();
}

}  // namespace deeplab::preprocess::coco
