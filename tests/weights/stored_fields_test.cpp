// Newer fields of weights files, by a table that has some.
#include "../../src/weights/stored_fields.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace deeplab::weights {
namespace {

using config::Ends;
using config::Real;

struct Toy {
    int old = 3;
    float share = 0.5f;
    bool separable = false;
    std::string dilation = "uniform";
    std::array<float, 3> mean = {0.1f, 0.2f, 0.3f};
};

const config::Fields<Toy>& rows() {
    static const auto fields = [] {
        config::Table<Toy> t;
        t.number("toy.old", DEEPLAB_MEMBER(old), config::Whole{}, "", {.place = "old"});
        t.number("toy.share", DEEPLAB_MEMBER(share), Real{.low = 0, .high = 1}, "",
                 {.newer = true});
        t.flag("toy.separable", DEEPLAB_MEMBER(separable), "", {.newer = true});
        t.choice("toy.dilation", DEEPLAB_MEMBER(dilation),
                 std::vector<std::string>{"uniform", "layer"}, "", {.newer = true});
        t.numbers("toy.mean", DEEPLAB_MEMBER(mean), Real{.low = 0, .high = 1}, "", {.newer = true});
        return std::move(t).fields();
    }();
    return fields;
}

Toy read(const Texts& texts) {
    const Find find = [&](const std::string& name) -> std::optional<std::string> {
        for (const auto& [key, text] : texts)
            if (key == name) return text;
        return std::nullopt;
    };
    Toy toy;
    check_required(rows(), find, "the file a.h5");
    read_newer(rows(), toy, find, "the file a.h5");
    return toy;
}

template <class Failure>
std::string refusal(const Texts& texts) {
    try {
        read(texts);
    } catch (const Failure& error) {
        return error.what();
    }
    return "";
}

void expect_part(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(StoredFields, DefaultsLeaveAFileAsItWas) {
    Toy toy;
    toy.old = 7;  // has its own place
    EXPECT_TRUE(newer_texts(rows(), toy).empty());
    EXPECT_EQ(read({}).share, 0.5f);
}

TEST(StoredFields, OthersAreWrittenNamedAsRequiredAndReadBack) {
    Toy toy;
    toy.share = 0.1f;
    toy.separable = true;
    toy.dilation = "layer";
    toy.mean = {0, 0.25f, 1.0f / 3};
    const Texts texts = newer_texts(rows(), toy);
    EXPECT_EQ(texts,
              (Texts{{"toy.share", "0.1"},
                     {"toy.separable", "true"},
                     {"toy.dilation", "layer"},
                     {"toy.mean", "[0, 0.25, 0.33333334]"},
                     {"requires", R"(["toy.share","toy.separable","toy.dilation","toy.mean"])"}}));
    const Toy back = read(texts);
    EXPECT_EQ(back.share, toy.share);
    EXPECT_EQ(back.separable, toy.separable);
    EXPECT_EQ(back.dilation, toy.dilation);
    EXPECT_EQ(back.mean, toy.mean);
}

TEST(StoredFields, WhatIsNotKnownIsReadOverUnlessItIsRequired) {
    EXPECT_EQ(read({{"toy.colour", "green"}, {"toy.share", "0.25"}}).share, 0.25f);
    const std::string message = refusal<io::NewerFile>(
        {{"toy.colour", "green"}, {"requires", R"(["toy.share", "toy.colour"])"}});
    expect_part(message, "the file a.h5 needs a program that knows \"toy.colour\"");
    expect_part(message, "use the version of deeplab-hpc that wrote it, or a newer one");
}

TEST(StoredFields, AWordOfANewerProgramIsNamed) {
    expect_part(refusal<io::NewerFile>({{"toy.dilation", "multigrid"}}),
                "needs a program that knows toy.dilation = \"multigrid\"");
}

TEST(StoredFields, DamageIsNamed) {
    expect_part(refusal<DataError>({{"toy.share", "2"}}),
                "its toy.share 2 is not a number in [0, 1]");
    expect_part(refusal<DataError>({{"toy.share", "x"}}), "its toy.share is no JSON");
    expect_part(refusal<DataError>({{"toy.share", "0.5 "}}), "its toy.share has blanks");
    for (const char* text : {"{}", "[1]", "true"})
        expect_part(refusal<DataError>({{"requires", text}}), "is no list of names");
}

}  // namespace
}  // namespace deeplab::weights
