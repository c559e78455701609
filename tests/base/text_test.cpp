#include "deeplab/base/text.h"

#include <gtest/gtest.h>

#include <cmath>

#include "deeplab/base/types.h"

namespace deeplab {
namespace {

TEST(Text, FixedRoundsAndIgnoresTheLocale) {
    EXPECT_EQ(fixed(3.14159, 3), "3.142");
    EXPECT_EQ(fixed(-0.5, 0), "-0");
    EXPECT_EQ(fixed(1e6, 1), "1000000.0");
    EXPECT_EQ(fixed(NAN, 2), "nan");
}

TEST(Text, HumanBytes) {
    EXPECT_EQ(human_bytes(0), "0 B");
    EXPECT_EQ(human_bytes(1023), "1023 B");
    EXPECT_EQ(human_bytes(1024), "1.00 KiB");
    EXPECT_EQ(human_bytes(1610612736), "1.50 GiB");
    EXPECT_EQ(human_bytes(1024 * 1024 - 1), "1.00 MiB");
    EXPECT_EQ(human_bytes(~std::uint64_t{0}), "16.00 EiB");
}

TEST(Text, HumanSeconds) {
    EXPECT_EQ(human_seconds(4.1), "4.1 s");
    EXPECT_EQ(human_seconds(59.94), "59.9 s");
    EXPECT_EQ(human_seconds(59.96), "1 min 00 s");
    EXPECT_EQ(human_seconds(200), "3 min 20 s");
    EXPECT_EQ(human_seconds(3599.6), "1 h 00 min");
    EXPECT_EQ(human_seconds(3720), "1 h 02 min");
    EXPECT_EQ(human_seconds(-200), "-3 min 20 s");
    EXPECT_EQ(human_seconds(INFINITY), "unknown");
}

TEST(Text, SplitKeepsEmptyParts) {
    EXPECT_EQ(split("a,b,,c", ','), (std::vector<std::string>{"a", "b", "", "c"}));
    EXPECT_EQ(split("", ','), (std::vector<std::string>{""}));
    EXPECT_EQ(split("a,", ','), (std::vector<std::string>{"a", ""}));
}

TEST(Text, TrimTakesWhiteSpaceOfBothEnds) {
    EXPECT_EQ(trim(" \t a b\r\n"), "a b");
    EXPECT_EQ(trim(" \n "), "");
    EXPECT_EQ(trim(""), "");
}

TEST(Text, NearestSuggestsLikelyMistakesOnly) {
    const std::vector<std::string> names = {"--data", "--device", "--out", "--resume",
                                            "iterations"};
    EXPECT_EQ(nearest("--dat", names), "--data");
    EXPECT_EQ(nearest("--ouT", names), "--out");
    EXPECT_EQ(nearest("--reusme", names), "--resume");
    EXPECT_EQ(nearest("iteratoins", names), "iterations");
    EXPECT_EQ(nearest("--something-else", names), "");
    EXPECT_EQ(nearest("", names), "");
    EXPECT_EQ(nearest("x", std::vector<std::string>{"y"}), "");
}

// Values of the reference tables of the FNV draft.
TEST(Text, Fnv1aOfKnownTexts) {
    EXPECT_EQ(fnv1a("", 0), 0xcbf29ce484222325ull);
    EXPECT_EQ(fnv1a("a", 1), 0xaf63dc4c8601ec8cull);
    EXPECT_EQ(fnv1a("foobar", 6), 0x85944171f73967e8ull);
    EXPECT_EQ(fnv1a("bar", 3, fnv1a("foo", 3)), fnv1a("foobar", 6));
    EXPECT_EQ(hex64(0xaf63dc4c8601ec8cull), "af63dc4c8601ec8c");
    EXPECT_EQ(hex64(1), "0000000000000001");
}

TEST(Text, CatTakesAnythingThatPrints) {
    EXPECT_EQ(cat("step ", 3, ": ", 0.5, ' ', "x"), "step 3: 0.5 x");
}

TEST(Text, ColumnsAreAligned) {
    EXPECT_EQ(left_aligned("ab", 4) + "|", "ab  |");
    EXPECT_EQ(right_aligned("ab", 4), "  ab");
    EXPECT_EQ(right_aligned("7", 3, '0'), "007");
    EXPECT_EQ(left_aligned("abc", 2), "abc") << "nothing is cut";
    EXPECT_EQ(right_aligned("abc", 2), "abc") << "nothing is cut";
}

TEST(Types, SizesNamesAndShapes) {
    for (const DType type :
         {DType::f32, DType::f64, DType::bf16, DType::u8, DType::i32, DType::i64, DType::u64}) {
        EXPECT_GT(size_of(type), 0u);
        // The name ends with the size in bits.
        const std::string text = name(type);
        EXPECT_EQ(std::stoul(text.substr(text.find_first_of("0123456789"))), 8 * size_of(type))
            << text;
    }
    EXPECT_EQ(to_string(Shape{2, 64, 129, 127}), "2x64x129x127");
    EXPECT_EQ((Shape{2, 64, 129, 127}).elements(), 2 * 64 * 129 * 127);
}

}  // namespace
}  // namespace deeplab
