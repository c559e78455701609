#include "choice_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/temp_dir.h"

namespace deeplab::cuda {
namespace {

namespace fs = std::filesystem;

const Choice first{17, {{2, 5}, {13, -1}}, 0.125}, second{3, {}, 1.5};

class ChoiceCacheTest : public ::testing::Test {
protected:
    void write(const std::string& text) const { std::ofstream(file_) << text; }
    std::string text() const { return read_text(file_); }
    void save_two() const {
        ChoiceCache cache(file_);
        cache.insert("cudnn 91900 | A | forward", first);
        cache.insert("cudnn 91900 | B | forward", second);
        cache.save();
    }

    testing::TempDir dir_;
    const fs::path file_ = dir_ / "choices.txt";
};

TEST_F(ChoiceCacheTest, WhatIsSavedIsFoundAgain) {
    EXPECT_FALSE(ChoiceCache(file_).find("cudnn 91900 | A | forward"));
    save_two();
    const ChoiceCache cache(file_);
    EXPECT_EQ(cache.find("cudnn 91900 | A | forward"), first);
    EXPECT_EQ(cache.find("cudnn 91900 | B | forward"), second);
    EXPECT_FALSE(cache.find("cudnn 91901 | A | forward")) << "another cuDNN";
    EXPECT_FALSE(cache.find("cudnn 91900 | C | forward")) << "another device";
}

TEST_F(ChoiceCacheTest, SavingKeepsWhatOthersWroteMeanwhile) {
    ChoiceCache mine(file_);
    mine.insert("mine", first);
    save_two();
    mine.save();
    EXPECT_EQ(ChoiceCache(file_).size(), 3u);
    const auto before = fs::last_write_time(file_);
    mine.save();
    EXPECT_EQ(fs::last_write_time(file_), before) << "nothing was new";
    for (const auto& entry : fs::directory_iterator(dir_.path()))
        EXPECT_EQ(entry.path(), file_) << "a temporary file stayed";
}

// Two that read the file at the same time: the second to write takes the first one's entries away.
TEST_F(ChoiceCacheTest, WhatOthersLostIsSavedAgain) {
    ChoiceCache cache(file_);
    cache.insert("mine", first);
    cache.save();
    fs::remove(file_);
    save_two();
    cache.save();
    EXPECT_EQ(ChoiceCache(file_).size(), 3u);
    EXPECT_EQ(ChoiceCache(file_).find("mine"), first);
    // Another one's choice for the same convolution stays, as theirs came later.
    ChoiceCache theirs(file_);
    theirs.insert("mine", second);
    theirs.save();
    cache.save();
    EXPECT_EQ(ChoiceCache(file_).find("mine"), second);
}

TEST_F(ChoiceCacheTest, WhatWasNotMeasuredIsNotSaved) {
    ChoiceCache cache(file_);
    const Choice untimed{5, {}, 0};
    cache.insert("key", untimed);
    cache.save();
    EXPECT_FALSE(fs::exists(file_));
    ChoiceCache other({});
    EXPECT_TRUE(other.merge(cache.text(), "rank 0"));
    EXPECT_EQ(other.find("key"), untimed) << "ranks hear of it";
}

TEST_F(ChoiceCacheTest, DamagedLinesAreLeftOutAndTheOthersStay) {
    save_two();
    const std::string whole = text();
    // Every single damaged byte of the first entry, its end included.
    const std::size_t begin = whole.find('\n') + 1, end = whole.find('\n', begin);
    for (std::size_t i = begin; i < end; ++i) {
        std::string damaged = whole;
        damaged[i] = damaged[i] == '7' ? '8' : '7';
        write(damaged);
        ::testing::internal::CaptureStderr();
        const ChoiceCache cache(file_);
        const std::string warning = ::testing::internal::GetCapturedStderr();
        ASSERT_EQ(cache.size(), 1u) << "byte " << i;
        ASSERT_EQ(cache.find("cudnn 91900 | B | forward"), second);
        ASSERT_NE(warning.find("1 line is damaged"), std::string::npos) << warning;
    }
    // Cut anywhere: what is whole is used.
    for (std::size_t i = whole.find('\n') + 1; i < whole.size(); ++i) {
        write(whole.substr(0, i));
        ASSERT_LE(ChoiceCache(file_).size(), i < end ? 0u : i + 1 < whole.size() ? 1u : 2u) << i;
    }
}

TEST_F(ChoiceCacheTest, AForeignFileIsLeftAlone) {
    for (const char* other :
         {"", "my shopping list\n", "deeplab-hpc convolution choices, format 2\nx\n"}) {
        write(other);
        ::testing::internal::CaptureStderr();
        ChoiceCache cache(file_);
        EXPECT_NE(::testing::internal::GetCapturedStderr().find("choices.txt"), std::string::npos);
        EXPECT_EQ(cache.size(), 0u);
        cache.insert("key", first);
        cache.save();
        EXPECT_EQ(text(), other);
        EXPECT_EQ(cache.find("key"), first) << "kept for this run";
    }
}

TEST_F(ChoiceCacheTest, APlaceThatCannotBeWrittenIsAWarning) {
    std::ofstream(dir_ / "plain") << "a file";
    ChoiceCache cache(dir_ / "plain" / "choices.txt");
    cache.insert("key", first);
    ::testing::internal::CaptureStderr();
    cache.save();
    EXPECT_NE(::testing::internal::GetCapturedStderr().find("not kept"), std::string::npos);
    ChoiceCache folder(dir_.path());  // a folder where a file should be
    folder.insert("key", first);
    folder.save();
    EXPECT_TRUE(fs::is_directory(dir_.path()));
    ChoiceCache nowhere({});
    nowhere.insert("key", first);
    nowhere.save();
}

TEST_F(ChoiceCacheTest, RanksTakeOverTheTextOfRankZero) {
    save_two();
    const ChoiceCache zero(file_);
    ChoiceCache other({});
    other.insert("cudnn 91900 | A | forward", second);
    EXPECT_TRUE(other.merge(zero.text(), "rank 0"));
    EXPECT_EQ(other.find("cudnn 91900 | A | forward"), first);
    EXPECT_FALSE(other.merge("noise", "rank 0"));
}

TEST_F(ChoiceCacheTest, ErasedEntriesAreNotSaved) {
    ChoiceCache cache(file_);
    cache.insert("key", first);
    cache.erase("key");
    EXPECT_FALSE(cache.find("key"));
    cache.save();
    EXPECT_FALSE(fs::exists(file_));
    EXPECT_THROW(cache.insert("two\tfields", first), LogicError);
}

TEST_F(ChoiceCacheTest, ThePlaceFollowsTheEnvironment) {
    const auto at = [](const char* own, const char* cache, const char* home) {
        const auto set = [](const char* name, const char* value) {
            value != nullptr ? setenv(name, value, 1) : unsetenv(name);
        };
        set("DEEPLAB_TUNING_CACHE", own), set("XDG_CACHE_HOME", cache), set("HOME", home);
        return default_choice_cache().string();
    };
    const char* home = std::getenv("HOME");
    const std::string before = home != nullptr ? home : "/";
    EXPECT_EQ(at("/own.txt", "/cache", "/home"), "/own.txt");
    EXPECT_EQ(at("", "/cache", "/home"), "") << "none";
    EXPECT_EQ(at(nullptr, "/cache", "/home"), "/cache/deeplab-hpc/convolutions.txt");
    EXPECT_EQ(at(nullptr, nullptr, "/home"), "/home/.cache/deeplab-hpc/convolutions.txt");
    EXPECT_EQ(at(nullptr, nullptr, nullptr), "");
    at(nullptr, nullptr, before.c_str());
}

}  // namespace
}  // namespace deeplab::cuda
