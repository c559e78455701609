#include "deeplab/io/json_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "harness/temp_dir.h"

namespace deeplab::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Transcript : public JsonEvents {
public:
    void null() override { text_ += "null "; }
    void boolean(bool value) override { text_ += value ? "true " : "false "; }
    void integer(std::int64_t value) override { text_ += cat("i", value, " "); }
    void number(double value) override { text_ += cat("d", value, " "); }
    void text(std::string& value) override { text_ += cat("'", value, "' "); }
    void key(std::string& name) override { text_ += cat(name, ": "); }
    void start_object() override { text_ += "{ "; }
    void end_object() override { text_ += "} "; }
    void start_array() override { text_ += "[ "; }
    void end_array() override { text_ += "] "; }

    std::string text_;
};

class JsonEventsTest : public ::testing::Test {
protected:
    std::string read(const std::string& json) {
        write_atomically(file, json);
        Transcript events;
        try {
            read_json(file, events);
        } catch (const Error& error) {
            return cat(static_cast<int>(error.code()), " ", error.what());
        }
        return events.text_;
    }

    testing::TempDir dir;
    std::filesystem::path file = dir / "a.json";
};

TEST_F(JsonEventsTest, ComeInTheFilesOrder) {
    EXPECT_EQ(read("{\"a\": [1, -2.5, null, true], \"b\": {\"a\": \"x\\n\\u00e4\"}, \"a\": []}\n"),
              "{ a: [ i1 d-2.5 null true ] b: { a: 'x\n\xC3\xA4' } a: [ ] } ");
    EXPECT_EQ(read("18446744073709551615"), "d1.84467e+19 ");
    EXPECT_EQ(read("9223372036854775807"), "i9223372036854775807 ");
}

// A piece of the file ends within a number, a text and between two values.
TEST_F(JsonEventsTest, DoNotDependOnWhereAPieceEnds) {
    constexpr std::size_t piece = 1 << 20;
    for (std::size_t before = piece - 12; before <= piece + 1; ++before) {
        const std::string json = std::string(before - 1, ' ') + "[1234, \"abc\"]";
        ASSERT_EQ(read(json), "[ i1234 'abc' ] ") << before;
    }
    EXPECT_EQ(read("[" + std::string(2 * piece - 2, ' ') + "]"), "[ ] ");
}

TEST_F(JsonEventsTest, NameTheByteWhereAFileIsNone) {
    EXPECT_THAT(read("[1, 2"), AllOf(HasSubstr("3 not valid JSON"), HasSubstr("a.json, byte 5")));
    EXPECT_THAT(read("[NaN]"), HasSubstr("value - invalid literal near [N ("));
    EXPECT_THAT(read("[1] [2]"), HasSubstr("not valid JSON"));
    EXPECT_THAT(read(""), HasSubstr("not valid JSON"));
    EXPECT_THAT(read("[1e999]"), HasSubstr("not valid JSON"));
    EXPECT_LT(read("[\"" + std::string(100000, 'x')).size(), 600u);
    EXPECT_THAT(read(std::string("\x1f\x8b\x08\0\0\0\0\0\0\3", 10) + std::string(90, 'z')),
                AllOf(HasSubstr("gzip"), HasSubstr("a.json")));
}

TEST_F(JsonEventsTest, AFileThatIsNotThereIsAMistakeOfUse) {
    Transcript events;
    EXPECT_THROW(read_json(dir / "none.json", events), UsageError);
    EXPECT_THROW(read_json(dir.path(), events), UsageError);
}

}  // namespace
}  // namespace deeplab::io
