#include "deeplab/io/hdf5.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "harness/messages.h"
#include "harness/sanitizers.h"
#include "harness/temp_dir.h"

namespace deeplab::io {
namespace {

using deeplab::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string bytes_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void store(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

constexpr std::int64_t kCube[] = {4, 5, 6};

std::vector<float> cube_values() {
    std::vector<float> values(4 * 5 * 6);
    std::iota(values.begin(), values.end(), 0.5f);
    return values;
}

// One of everything: groups within groups, all types, texts, a dataset in pieces, nothing at all.
void write_sample(const std::filesystem::path& path) {
    Hdf5Writer file(path);
    file.attribute("format", std::int64_t{3});
    file.attribute("loss", 0.1);
    file.attribute("config", std::string("a = \"ä\"\n"));
    file.attribute("empty", std::string());
    const auto values = cube_values();
    file.write("parameters/backbone.conv1.weight", values.data(), DType::f32, kCube);
    for (int i = 0; i < 20; ++i) {  // more links than fit into a group's header
        file.write("parameters/p" + std::to_string(i), values.data(), DType::f32, {{2, 3}});
    }
    const double wide[] = {1e300, -0.0};
    const std::int32_t small[] = {-7, 8};
    const std::int64_t large[] = {INT64_MIN, INT64_MAX};
    const std::uint64_t positive[] = {0, UINT64_MAX};
    const std::int64_t two = 2, none = 0;
    file.write("a/b/f64", wide, DType::f64, {&two, 1});
    file.write("a/b/i32", small, DType::i32, {&two, 1});
    file.write("a/i64", large, DType::i64, {&two, 1});
    file.write("a/u64", positive, DType::u64, {&two, 1});
    file.write("a/nothing", nullptr, DType::f32, {&none, 1});
    file.write("a/scalar", &large[1], DType::i64, {});
    const std::string names[] = {"2007_000032", "", "grüße"};
    file.write_strings("ids", names);
    file.write_strings("no_ids", {});
    file.create("bytes", DType::u8, 10);
    file.append("bytes", "abc", 3);
    file.append("bytes", "", 0);
    file.append("bytes", "defghij", 7);
    file.close();
}

void read_everything(const std::filesystem::path& path) {
    const Hdf5Reader file(path);
    file.attribute_int("format");
    file.attribute_double("loss");
    file.attribute_text("config");
    for (const std::string& name : file.list("parameters"))
        file.read_all<float>("parameters/" + name, DType::f32);
    file.read_all<std::uint8_t>("bytes", DType::u8);
    file.read_all<double>("a/b/f64", DType::f64);
    file.read_all<std::uint64_t>("a/u64", DType::u64);
    file.read_strings("ids");
}

TEST(Hdf5, RoundTrip) {
    const TempDir dir;
    write_sample(dir / "a.h5");
    const Hdf5Reader file(dir / "a.h5");
    EXPECT_EQ(file.attribute_int("format"), 3);
    EXPECT_EQ(file.attribute_double("loss"), 0.1);
    EXPECT_EQ(file.attribute_text("config"), "a = \"ä\"\n");
    EXPECT_EQ(file.attribute_text("empty"), "");
    EXPECT_TRUE(file.has_attribute("loss"));
    EXPECT_FALSE(file.has_attribute("gain"));

    EXPECT_EQ(file.read_all<float>("parameters/backbone.conv1.weight", DType::f32), cube_values());
    EXPECT_THAT(file.extents("parameters/backbone.conv1.weight"), ElementsAre(4, 5, 6));
    EXPECT_THAT(file.read_all<double>("a/b/f64", DType::f64), ElementsAre(1e300, -0.0));
    EXPECT_TRUE(std::signbit(file.read_all<double>("a/b/f64", DType::f64)[1]));
    EXPECT_THAT(file.read_all<std::int32_t>("a/b/i32", DType::i32), ElementsAre(-7, 8));
    EXPECT_THAT(file.read_all<std::int64_t>("a/i64", DType::i64),
                ElementsAre(INT64_MIN, INT64_MAX));
    EXPECT_THAT(file.read_all<std::uint64_t>("a/u64", DType::u64), ElementsAre(0, UINT64_MAX));
    EXPECT_THAT(file.read_all<std::int64_t>("a/scalar", DType::i64), ElementsAre(INT64_MAX));
    EXPECT_TRUE(file.read_all<float>("a/nothing", DType::f32).empty());
    EXPECT_THAT(file.read_strings("ids"), ElementsAre("2007_000032", "", "grüße"));
    EXPECT_TRUE(file.read_strings("no_ids").empty());

    const auto bytes = file.read_all<std::uint8_t>("bytes", DType::u8);
    EXPECT_EQ(std::string(bytes.begin(), bytes.end()), "abcdefghij");

    EXPECT_THAT(file.list("a"), ElementsAre("b", "i64", "nothing", "scalar", "u64"));
    EXPECT_THAT(file.list(""), ElementsAre("a", "bytes", "ids", "no_ids", "parameters"));
    EXPECT_EQ(file.list("/parameters").size(), 21u);
    EXPECT_TRUE(file.has("a/b/i32"));
    EXPECT_TRUE(file.has("/a/b"));
    EXPECT_FALSE(file.has("a/x/i32"));

    EXPECT_EQ(file.type("a/b/f64"), DType::f64);
    EXPECT_EQ(file.type("a/b/i32"), DType::i32);
    EXPECT_EQ(file.type("a/i64"), DType::i64);
    EXPECT_EQ(file.type("a/u64"), DType::u64);
    EXPECT_EQ(file.type("bytes"), DType::u8);
    EXPECT_EQ(file.type("parameters/p0"), DType::f32);
}

TEST(Hdf5, EveryFlatRangeOfAnArray) {
    const TempDir dir;
    write_sample(dir / "a.h5");
    const Hdf5Reader file(dir / "a.h5");
    const auto all = cube_values();
    const auto size = static_cast<std::int64_t>(all.size());
    for (std::int64_t first = 0; first <= size; ++first) {
        for (std::int64_t count = 0; count <= size - first; ++count) {
            std::vector<float> part(static_cast<std::size_t>(count) + 1, -1.0f);
            file.read("parameters/backbone.conv1.weight", part.data(), DType::f32, first, count);
            EXPECT_EQ(part.back(), -1.0f) << "wrote beyond the range";
            part.pop_back();
            ASSERT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first))
                << first << " + " << count;
        }
    }
}

TEST(Hdf5, EqualContentGivesEqualBytes) {
    const TempDir dir;
    write_sample(dir / "a.h5");
    std::this_thread::sleep_for(
        std::chrono::milliseconds(1100));  // HDF5's time stamps count seconds
    write_sample(dir / "b.h5");
    const std::string first = bytes_of(dir / "a.h5");
    EXPECT_FALSE(first.empty());
    EXPECT_TRUE(first == bytes_of(dir / "b.h5"));
    EXPECT_EQ(first.find(dir.path().filename().string()), std::string::npos)
        << "the path is in the file";
}

TEST(Hdf5, LongAttribute) {
    const TempDir dir;
    const std::string text(200000, 'x');  // beyond the 64 KiB of an object header
    {
        Hdf5Writer file(dir / "a.h5");
        for (int i = 0; i < 30; ++i) file.attribute("n" + std::to_string(i), std::int64_t{i});
        file.attribute("text", text);
        file.close();
    }
    const Hdf5Reader file(dir / "a.h5");
    EXPECT_EQ(file.attribute_text("text"), text);
    EXPECT_EQ(file.attribute_int("n29"), 29);
}

TEST(Hdf5, WrongUseIsNamed) {
    const TempDir dir;
    write_sample(dir / "a.h5");
    const Hdf5Reader file(dir / "a.h5");
    float one = 0;
    EXPECT_THAT(
        testing::message_of<DataError>([&] { file.read("a/b/f64", &one, DType::f32, 0, 1); }),
        HasSubstr("a/b/f64 does not hold"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.read("a/i64", &one, DType::u64, 0, 1); }),
                HasSubstr("a/i64 does not hold"));
    EXPECT_THAT(
        testing::message_of<DataError>([&] { file.read("parameters/p0", &one, DType::f32, 5, 2); }),
        HasSubstr("6 elements"));
    EXPECT_THAT(testing::message_of<DataError>(
                    [&] { file.read("parameters/p0", &one, DType::f32, -1, 1); }),
                HasSubstr("6 elements"));
    EXPECT_THAT(testing::message_of<DataError>(
                    [&] { file.read("parameters/p0", &one, DType::f32, 1, INT64_MAX); }),
                HasSubstr("6 elements"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.extents("x/y"); }),
                HasSubstr("there is no dataset x/y"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.extents("a"); }),
                HasSubstr("cannot open a"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.list("x"); }),
                HasSubstr("there is no group x"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.list("ids"); }),
                HasSubstr("cannot open the group ids"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.read_strings("bytes"); }),
                HasSubstr("does not hold texts"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.type("ids"); }),
                HasSubstr("element type"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.attribute_int("x"); }),
                HasSubstr("there is no attribute x"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.attribute_int("loss"); }),
                HasSubstr("not an integer"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.attribute_text("loss"); }),
                HasSubstr("not a text"));
    EXPECT_THAT(testing::message_of<DataError>([&] { file.attribute_double("config"); }),
                HasSubstr("not a number"));
    EXPECT_THAT(testing::message_of<DataError>([&] { Hdf5Reader missing(dir / "none.h5"); }),
                HasSubstr("none.h5"));
    EXPECT_THAT(testing::message_of<DataError>([&] { Hdf5Reader folder(dir.path()); }),
                HasSubstr("cannot open the file"));
}

TEST(Hdf5, WriterRefusesHalfDatasetsAndBadFolders) {
    const TempDir dir;
    try {
        Hdf5Writer writer(dir / "none" / "a.h5");
        FAIL() << "no error";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("a.h5"));
    }
    Hdf5Writer file(dir / "a.h5");
    file.create("x", DType::u8, 4);
    EXPECT_THROW(file.append("y", "a", 1), LogicError);
    EXPECT_THROW(file.append("x", "abcde", 5), LogicError);
    file.append("x", "ab", 2);
    EXPECT_THROW(file.append("x", "abc", 3), LogicError);
    EXPECT_THROW(file.close(), LogicError);
    EXPECT_THROW(file.create("x", DType::u8, 4), Error) << "a name stands once";
    const float value = 0;
    EXPECT_THROW(file.write("b", &value, DType::bf16, {}), LogicError);
    EXPECT_THROW(file.attribute("a", std::string("a\0b", 3)), LogicError);
}

// HDF5 cannot even close such a file; the process still has to end with the exit code of the error.
TEST(Hdf5, FullDiskIsAnErrorAndNothingWorse) {
    const TempDir dir;
    const auto fill = [&] {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{100000, 100000};
        setrlimit(RLIMIT_FSIZE, &limit);
        try {
            const std::int64_t size = 100000;
            const std::vector<float> values(static_cast<std::size_t>(size));
            Hdf5Writer file(dir / "full.h5");
            file.write("x", values.data(), DType::f32, {&size, 1});
            file.close();
        } catch (const Error& error) {
            std::fputs(error.what(), stderr);
            std::exit(static_cast<int>(error.code()));
        }
        std::exit(0);
    };
    EXPECT_EXIT(fill(), ::testing::ExitedWithCode(4), "full.h5.*: File too large.*ulimit -f");
}

// Many file systems have no locks; the variable of the user's environment would ask for them.
TEST(Hdf5, WritesAndReadsWithoutFileLocks) {
    const TempDir dir;
    const auto locked = [&](const char* name) {
        const int file = open((dir / name).c_str(), O_RDWR);
        EXPECT_GE(file, 0);
        const bool taken = flock(file, LOCK_EX | LOCK_NB) != 0;
        close(file);
        return taken;
    };
    Hdf5Writer file(dir / "a.h5");
    EXPECT_FALSE(locked("a.h5"));
    EXPECT_STREQ(getenv("HDF5_USE_FILE_LOCKING"), "FALSE");
    file.close();
    const Hdf5Reader reader(dir / "a.h5");
    EXPECT_FALSE(locked("a.h5"));
}

TEST(Hdf5, TooManyOpenFilesAreNotTheFilesFault) {
    DEEPLAB_SKIP_UNDER_SANITIZERS();
    const TempDir dir;
    const auto name = [&](int i) { return dir / std::to_string(i); };
    for (int i = 0; i < 40; ++i) Hdf5Writer(name(i)).close();
    const auto open_all = [&] {
        const rlimit limit{40, 40};
        setrlimit(RLIMIT_NOFILE, &limit);
        std::vector<std::unique_ptr<Hdf5Reader>> readers;
        try {
            for (int i = 0; i < 40; ++i) readers.push_back(std::make_unique<Hdf5Reader>(name(i)));
        } catch (const Error& error) {
            std::fputs(error.what(), stderr);
            std::_Exit(static_cast<int>(error.code()));
        }
        std::_Exit(0);
    };
    EXPECT_EXIT(open_all(), ::testing::ExitedWithCode(4), "Too many open files.*ulimit -n");
}

TEST(Hdf5, ClaimsBeyondTheFileAreRefused) {
    const TempDir dir;
    {
        Hdf5Writer file(dir / "a.h5");
        file.create("x", DType::u8,
                    std::int64_t{1} << 31);  // HDF5 makes room at the first write: never
    }
    ASSERT_LT(std::filesystem::file_size(dir / "a.h5"), 100000u);
    const Hdf5Reader file(dir / "a.h5");
    EXPECT_THAT(
        testing::message_of<DataError>([&] { file.read_all<std::uint8_t>("x", DType::u8); }),
        HasSubstr("more elements than"));
}

TEST(Hdf5, TruncatedFilesAreRefused) {
    const TempDir dir;
    write_sample(dir / "a.h5");
    const std::string whole = bytes_of(dir / "a.h5");
    for (std::size_t length = 0; length < whole.size(); length += length < 600 ? 1 : 37) {
        store(dir / "cut.h5", whole.substr(0, length));
        EXPECT_THROW(Hdf5Reader(dir / "cut.h5"), DataError) << length << " of " << whole.size();
    }
}

TEST(Hdf5, DamageNeverCrashes) {
    const TempDir dir;
    write_sample(dir / "a.h5");
    const std::string whole = bytes_of(dir / "a.h5");
    std::mt19937 random(7);
    int refused = 0;
    for (int round = 0; round < 600; ++round) {
        std::string bytes = whole;
        bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
        store(dir / "damaged.h5", bytes);
        try {
            read_everything(dir / "damaged.h5");
        } catch (const DataError&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 40);
}

}  // namespace
}  // namespace deeplab::io
