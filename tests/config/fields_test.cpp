// Rows of a table: what they take, what they say, and what they give back.
#include "deeplab/config/fields.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "deeplab/config/model_fields.h"

namespace deeplab::config {
namespace {

enum class Kind { near, far };
struct Toy {
    int size = 8, steps = 0;
    float share = 0.5f;
    double rate = 0;
    bool open = false;
    std::string word = "layer", name = "x";
    std::array<float, 3> mean = {0.1f, 0.2f, 0.3f};
    std::array<std::uint8_t, 2> levels = {1, 2};
    Kind kind = Kind::near;
};

const Fields<Toy>& rows() {
    static const auto fields = [] {
        Table<Toy> t;
        t.choice("size", DEEPLAB_MEMBER(size), std::vector<int>{8, 16}, "");
        t.number("steps", DEEPLAB_MEMBER(steps), Whole{.low = 2, .high = 9, .zero = "for none"},
                 "");
        t.number("share", DEEPLAB_MEMBER(share), Real{.low = 0, .high = 1, .ends = Ends::low}, "");
        t.number("rate", DEEPLAB_MEMBER(rate), Real{.ends = Ends::high, .zero = "for any"}, "");
        t.flag("open", DEEPLAB_MEMBER(open), "");
        t.choice("word", DEEPLAB_MEMBER(word), std::vector<std::string>{"uniform", "layer"}, "");
        t.text("name", DEEPLAB_MEMBER(name), "a name", "");
        t.numbers("mean", DEEPLAB_MEMBER(mean), Real{.low = 0, .high = 1}, "");
        t.numbers("levels", DEEPLAB_MEMBER(levels), Whole{.low = 0, .high = 255}, "");
        t.choice("kind", DEEPLAB_MEMBER(kind),
                 Named<Kind>{{"near", Kind::near}, {"far", Kind::far}}, "");
        return std::move(t).fields();
    }();
    return fields;
}

const Field<Toy>& row(const std::string& name) {
    for (const auto& field : rows())
        if (field.name == name) return field;
    throw LogicError("no row " + name);
}

// What the row gives back as JSON; "!" and what it takes where it refuses the value.
std::string taken(const std::string& name, const io::Value& value) {
    Toy toy;
    try {
        row(name).set(toy, {value, name, "here"});
    } catch (const UnknownWord& error) {
        return "?" + error.takes;
    } catch (const WrongValue& error) {
        return "!" + error.takes;
    }
    return io::to_json(row(name).get(toy));
}

TEST(Fields, EachKindTakesItsValuesAndNoOthers) {
    EXPECT_EQ(taken("size", 16), "16");
    EXPECT_EQ(taken("size", 12), "!one of 8, 16");
    EXPECT_EQ(taken("steps", 2), "2");
    EXPECT_EQ(taken("steps", 0), "0");
    for (const io::Value& value : std::vector<io::Value>{1, 10, -1, 2.0, "2", true})
        EXPECT_EQ(taken("steps", value), "!an integer from 2 to 9, or 0 for none");
    EXPECT_EQ(taken("share", 0), "0.0");
    EXPECT_EQ(taken("share", 0.1), "0.1");
    // Below 1, and 1 as a float.
    for (const double value : {1.0, 0.99999999999, -1e-30, static_cast<double>(NAN)})
        EXPECT_EQ(taken("share", value), "!a number in [0, 1)");
    EXPECT_EQ(taken("rate", 0), "0.0");
    EXPECT_EQ(taken("rate", -1), "!a number above 0, or 0 for any");
    EXPECT_EQ(taken("open", true), "true");
    EXPECT_EQ(taken("open", 1), "!true or false");
    EXPECT_EQ(taken("word", "uniform"), "\"uniform\"");
    EXPECT_EQ(taken("word", 3), "!one of \"uniform\", \"layer\"");
    EXPECT_EQ(taken("word", "multigrid"), "?one of \"uniform\", \"layer\"");
    EXPECT_EQ(taken("name", ""), "!a name");
    EXPECT_EQ(taken("mean", io::Array{0, 0.25, 1}), "[0.0,0.25,1.0]");
    EXPECT_EQ(taken("mean", io::Array{0, 0.25, 2}), "!three numbers in [0, 1]");
    EXPECT_EQ(taken("mean", io::Array{0, 0.25}), "!three numbers in [0, 1]");
    EXPECT_EQ(taken("levels", io::Array{0, 255}), "[0,255]");
    EXPECT_EQ(taken("levels", io::Array{0, 256}), "!two integers from 0 to 255");
    EXPECT_EQ(taken("kind", "far"), "\"far\"");
    EXPECT_EQ(taken("kind", "middle"), "?one of \"near\", \"far\"");
}

TEST(Fields, ChangedIsWhatHasNotItsDefault) {
    Toy toy;
    for (const auto& field : rows()) EXPECT_FALSE(field.changed(toy)) << field.name;
    toy.mean[2] = 0.25f;
    for (const auto& field : rows()) EXPECT_EQ(field.changed(toy), field.name == "mean");
}

// The value of a float is the one of the fewest digits, and gives the same float again.
TEST(Fields, FloatsSurvive) {
    EXPECT_EQ(io::to_json(Real::value(0.1f)), "0.1");
    for (const float v : {1e-5f, 0.1f, 1.0f / 3, 16777216.0f, 1e-42f, 3.4e38f})
        EXPECT_EQ(static_cast<float>(*Real::value(v).get_if<double>()), v);
}

// A row without a place in the files of version 1 must say that it is newer: its default would
// change the configuration that each checkpoint keeps.
TEST(Fields, RowsOfTheModelHaveTheirPlaceOrAreNewer) {
    for (const auto& field : model_fields())
        EXPECT_TRUE(field.newer || *field.place != '\0') << field.name;
}

}  // namespace
}  // namespace deeplab::config
