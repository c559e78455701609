#include "deeplab/io/value.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "harness/messages.h"

namespace deeplab::io {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string json_error(std::string_view text) {
    return testing::message_of<UsageError>([&] { parse_json(text, "file.json"); });
}
std::string toml_error(std::string_view text) {
    return testing::message_of<UsageError>([&] { parse_toml(text, "file.toml"); });
}

const Value& at(const Value& tree, std::string_view key) {
    const Object* object = tree.get_if<Object>();
    if (object == nullptr || object->find(key) == nullptr)
        throw std::out_of_range(std::string(key));
    return *object->find(key);
}

std::vector<std::string> keys_of(const Object& object) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : object.members()) keys.push_back(key);
    return keys;
}

TEST(Value, ObjectKeepsOrder) {
    Object object;
    object["z"] = 1;
    object["a"] = "text";
    object["z"] = 2.5;
    EXPECT_THAT(keys_of(object), ElementsAre("z", "a"));
    EXPECT_EQ(*object.find("z")->get_if<double>(), 2.5);
    EXPECT_EQ(object.find("b"), nullptr);
    EXPECT_STREQ(object.find("a")->type_name(), "a string");
    EXPECT_STREQ(Value(3).type_name(), "an integer");
    EXPECT_STREQ(Value(Array{}).type_name(), "a list");
    EXPECT_STREQ(Value().type_name(), "nothing");
}

TEST(Json, ParseAndPrint) {
    const char*
        text = R"({"z":1,"a":[true,null,-2.5,"ä\"\n"],"m":{},"e":[],"big":9223372036854775807})";
    const Value tree = parse_json(text, "test");
    EXPECT_EQ(to_json(tree), text);
    EXPECT_THAT(keys_of(*tree.get_if<Object>()), ElementsAre("z", "a", "m", "e", "big"));
    EXPECT_TRUE(at(tree, "z").is<std::int64_t>());
    EXPECT_EQ(to_json(parse_json("{\"a\": [1]}", "test"), 2), "{\n  \"a\": [\n    1\n  ]\n}");
    EXPECT_EQ(to_json(parse_json(" 3 ", "test")), "3");
}

TEST(Json, DoublesRoundTrip) {
    for (const double value : {0.1, 1.0, -0.0, 1e300, 5e-324, 1.0 / 3, 123456789012345680.0}) {
        const Value back = parse_json(to_json(Value(value)), "test");
        ASSERT_TRUE(back.is<double>()) << value;
        EXPECT_EQ(*back.get_if<double>(), value);
    }
    EXPECT_EQ(to_json(Array{std::nan(""), std::numeric_limits<double>::infinity()}), "[null,null]");
    EXPECT_EQ(to_json(Value("a\xFFz")), "\"a\xEF\xBF\xBDz\"");
}

TEST(Json, LinesOfValues) {
    const Value tree = parse_json("{\n  \"a\": 1\n,\n \"b\": [\n true],\n \"c\": \"x\"}", "test");
    EXPECT_EQ(tree.line, 1);
    EXPECT_EQ(at(tree, "a").line, 2);
    EXPECT_EQ(at(tree, "b").line, 4);
    EXPECT_EQ((*at(tree, "b").get_if<Array>())[0].line, 5);
    EXPECT_EQ(at(tree, "c").line, 6);
}

TEST(Json, ErrorsNameThePlace) {
    EXPECT_THAT(json_error("{\n \"a\": 1,\n \"b\": tru }"),
                AllOf(HasSubstr("file.json, line 3, column 10"), HasSubstr("tru")));
    EXPECT_THAT(json_error(""), HasSubstr("line 1"));
    EXPECT_THAT(json_error("{\"a\": 1"), HasSubstr("line 1"));
    EXPECT_THAT(json_error("[1] 2"), HasSubstr("line 1, column 5"));
    EXPECT_THAT(json_error("[1,\n]"), HasSubstr("line 2, column 1"));
    EXPECT_THAT(json_error("{\"a\": 1,\n\"a\": 2}"),
                AllOf(HasSubstr("\"a\" stands twice"), HasSubstr("line 2")));
    EXPECT_THAT(json_error("[9223372036854775808]"), HasSubstr("does not fit"));
    EXPECT_THAT(json_error("[1e999]"), HasSubstr("line 1"));
    EXPECT_THAT(json_error("\"\xFF\""), HasSubstr("line 1"));
    EXPECT_THAT(json_error(std::string(1000000, '[')), HasSubstr("nested deeper"));
}

TEST(Toml, ParseKeepsOrderAndLines) {
    const Value tree = parse_toml(
        "b = 1\na = 'x'\n\n[z]\nk.n = 1.5\nk.m = true\n[y]\nlist = [1,\n 2]\n[[class]]\nid = "
        "1\n[[class]]\nid = 2\n",
        "test");
    EXPECT_THAT(keys_of(*tree.get_if<Object>()), ElementsAre("b", "a", "z", "y", "class"));
    EXPECT_EQ(at(tree, "b").line, 1);
    EXPECT_EQ(at(tree, "a").line, 2);
    EXPECT_EQ(at(tree, "z").line, 4);
    EXPECT_THAT(keys_of(*at(at(tree, "z"), "k").get_if<Object>()), ElementsAre("n", "m"));
    EXPECT_EQ(at(at(at(tree, "z"), "k"), "m").line, 6);
    EXPECT_EQ((*at(at(tree, "y"), "list").get_if<Array>())[1].line, 9);
    const Array& classes = *at(tree, "class").get_if<Array>();
    ASSERT_EQ(classes.size(), 2u);
    EXPECT_EQ(*at(classes[1], "id").get_if<std::int64_t>(), 2);
    EXPECT_EQ(at(classes[1], "id").line, 13);
}

TEST(Toml, ErrorsNameThePlace) {
    EXPECT_THAT(toml_error("a = 1\nb = = 2\n"), HasSubstr("file.toml, line 2, column 5"));
    EXPECT_THAT(toml_error("a = 1\na = 2\n"), HasSubstr("line 2"));
    EXPECT_THAT(toml_error("a = 1\n\nd = 2020-01-02\n"),
                AllOf(HasSubstr("a date or time"), HasSubstr("line 3")));
    EXPECT_THAT(toml_error("d = [07:32:00]"), HasSubstr("a date or time"));
    EXPECT_THAT(toml_error("a = \"open"), HasSubstr("line 1"));
    EXPECT_THAT(toml_error("a = \"\xFF\""), HasSubstr("line 1"));
    EXPECT_THAT(toml_error("a = " + std::string(100000, '[')), HasSubstr("line 1"));
}

// A tree is destroyed recursively: its depth is bounded, however it comes about.
TEST(Toml, DepthIsBounded) {
    const auto dots = [](int count) {
        std::string key = "a";
        for (int i = 0; i < count; ++i) key += ".a";
        return key;
    };
    const std::string deep = dots(100000), half = dots(200);
    std::string stairs, brackets;
    for (int i = 0; i < 200; ++i) {
        stairs += "[{" + half + " = \n";
        brackets += "}]";
    }
    for (const std::string& text :
         {deep + " = 1\n", "[" + deep + "]\n", "x = {" + deep + " = 1}\n",
          "x = " + stairs + "1" + brackets, "x = [\"\"\"y\"\"\"\", {" + deep + " = 1}]\n",
          "# \"\n" + deep + " = 1\n", "x = 'it''s'\n" + deep + " = 1\n",
          "x = \"\\\"\"\n" + deep + " = 1\n"}) {
        EXPECT_THAT(toml_error(text), HasSubstr("nested deeper than 256 levels"))
            << text.substr(0, 40);
    }
    EXPECT_THAT(toml_error("a = 1\nb = '''\n'''\n" + deep + " = 1\n"), HasSubstr("line 4"));
    EXPECT_THAT(testing::message_of<UsageError>([&] { parse_toml_value("{" + deep + " = 1}"); }),
                HasSubstr("nested deeper"));
    // Dots that nest nothing.
    std::string numbers, text;
    for (int i = 0; i < 400; ++i) {
        numbers += "0.5, ";
        text += "b" + std::to_string(i) + " = 1.5 # " + half + "\n";
    }
    const Value tree = parse_toml("a = [" + numbers + "]\nre = \"" + deep + "\"\n" + text, "test");
    EXPECT_EQ(at(tree, "a").get_if<Array>()->size(), 400u);
    EXPECT_EQ(at(tree, "re").get_if<std::string>()->size(), deep.size());
    EXPECT_NO_THROW(parse_toml(half + " = 1\n", "test"));
}

TEST(Toml, WrittenTextReadsBack) {
    const char* text =
        "title = \"a \\\"b\\\" \\u000A\"\n"
        "rate = 0.007\n"
        "whole = 1.0\n"
        "odd = [inf, -inf, 1e-300]\n"
        "mixed = [1, \"a\", {x = 1}]\n"
        "\"a key\" = true\n"
        "\n[train]\n"
        "steps = 30000\n"
        "\n[train.schedule]\n"
        "power = 0.9\n"
        "\n[empty]\n"
        "\n[[class]]\n"
        "name = \"cat\"\n"
        "color = [64, 0, 0]\n"
        "\n[class.extra]\n"
        "x = 1\n"
        "\n[[class]]\n"
        "name = \"dog\"\n";
    const Value tree = parse_toml(text, "test");
    EXPECT_EQ(to_toml(*tree.get_if<Object>()), text);
    EXPECT_TRUE(at(tree, "whole").is<double>());
}

TEST(Toml, PlainValuesComeBeforeTables) {
    Object inner, outer;
    inner["x"] = 1;
    outer["inner"] = inner;
    outer["after"] = 2;
    outer["absent"] = Value();
    EXPECT_EQ(to_toml(outer), "after = 2\n\n[inner]\nx = 1\n");
    for (const double value : {0.1, 1e20, 5e-324, 123456789.0}) {
        Object object;
        object["v"] = value;
        const Value back = parse_toml(to_toml(object), "test");
        ASSERT_TRUE(at(back, "v").is<double>()) << value;
        EXPECT_EQ(*at(back, "v").get_if<double>(), value);
    }
}

TEST(Toml, SingleValues) {
    EXPECT_EQ(*parse_toml_value("12").get_if<std::int64_t>(), 12);
    EXPECT_EQ(*parse_toml_value(" 1e-3").get_if<double>(), 1e-3);
    EXPECT_EQ(*parse_toml_value("true").get_if<bool>(), true);
    EXPECT_EQ(*parse_toml_value("\"12\"").get_if<std::string>(), "12");
    EXPECT_EQ(parse_toml_value("[0.5, 1.0]").get_if<Array>()->size(), 2u);
    EXPECT_EQ(*at(parse_toml_value("{a = 1}"), "a").get_if<std::int64_t>(), 1);
    for (const char* word : {"auto", "runs/a-b_1.h5", "2020-01-02", "1.2.3", "", "a#b", "1#2",
                             "1, 2", "1\nb = 2", "1]\nb = [2", "True", "a b"}) {
        const Value value = parse_toml_value(word);
        ASSERT_TRUE(value.is<std::string>()) << word;
        EXPECT_EQ(*value.get_if<std::string>(), word);
    }
    for (const char* broken : {"[1, 2", "\"open", "{a = }"}) {
        EXPECT_THAT(testing::message_of<UsageError>([&] { parse_toml_value(broken); }),
                    HasSubstr(broken));
    }
    EXPECT_THAT(testing::message_of<UsageError>([] { parse_toml_value("[2020-01-02]"); }),
                HasSubstr("a date or time"));
}

}  // namespace
}  // namespace deeplab::io
