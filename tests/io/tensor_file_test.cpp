#include "deeplab/io/tensor_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "harness/messages.h"
#include "harness/sanitizers.h"
#include "harness/temp_dir.h"
#include "weights_files.h"

namespace deeplab::io {
namespace {

using namespace deeplab::testing;

const std::map<std::string, std::string> torch_types = {
    {"float64", "F64"}, {"float32", "F32"}, {"float16", "F16"}, {"bfloat16", "BF16"},
    {"int64", "I64"},   {"int32", "I32"},   {"int16", "I16"},   {"int8", "I8"},
    {"uint8", "U8"},    {"bool", "BOOL"}};

std::map<std::string, const StoredTensor*> by_name(const TensorFile& file) {
    std::map<std::string, const StoredTensor*> all;
    for (const StoredTensor& tensor : file.tensors) all[tensor.name] = &tensor;
    return all;
}

std::uint32_t crc_of(const std::vector<float>& values) {
    return crc32({reinterpret_cast<const unsigned char*>(values.data()), 4 * values.size()});
}

// expected.json was written by PyTorch: element type, CRC-32 of the values, extents.
TEST(TensorFile, PyTorchFilesHoldWhatPyTorchPutThere) {
    const Value answers = parse_json(read_text(golden("expected.json")), "expected.json");
    for (const auto& [name, tensors] : answers.get_if<Object>()->members()) {
        const TensorFile file = load_tensor_file(golden(name));
        const auto found = by_name(file);
        const auto& members = tensors.get_if<Object>()->members();
        EXPECT_EQ(found.size(), members.size()) << name;
        for (const auto& [tensor, answer] : members) {
            ASSERT_TRUE(found.contains(tensor)) << name << " " << tensor;
            const StoredTensor& t = *found.at(tensor);
            const Array& a = *answer.get_if<Array>();
            EXPECT_EQ(deeplab::io::name(t.type), torch_types.at(*a[0].get_if<std::string>()));
            std::vector<std::int64_t> extents;
            for (std::size_t d = 2; d < a.size(); ++d)
                extents.push_back(*a[d].get_if<std::int64_t>());
            EXPECT_EQ(t.extents, extents) << name << " " << tensor;
            EXPECT_EQ(crc_of(to_f32(t)), *a[1].get_if<std::int64_t>()) << name << " " << tensor;
        }
    }
}

TEST(TensorFile, TheKindIsToldByContent) {
    EXPECT_EQ(content_of(golden("types.pth")), Content::pth);
    EXPECT_EQ(content_of(golden("types_stream.pth")), Content::pth);
    EXPECT_EQ(content_of(golden("expected.json")), Content::unknown);
    EXPECT_EQ(content_of(golden("nothing")), Content::unknown);
    EXPECT_EQ(load_tensor_file(golden("types.pth")).kind, "PyTorch .pth (zip)");
    EXPECT_EQ(load_tensor_file(golden("types_stream.pth")).kind, "PyTorch .pth (the older stream)");
    EXPECT_EQ(load_tensor_file(golden("types.pth")).others, std::vector<std::string>{"text"});
    EXPECT_NE(message_of<DataError>([] {
                  load_tensor_file(golden("expected.json"));
              }).find("not a weights file"),
              std::string::npos);
}

// What PyTorch 0.1 under Python 2 wrote, to which no PyTorch of today can be brought: short
// strings, an OrderedDict from a list of pairs, parameters with a state, views of storages.
TEST(TensorFile, StreamsOfPython2AndTheFirstPyTorch) {
    const auto short_text = [](const std::string& s) { return "U" + little(s.size(), 1) + s; };
    const auto rebuilt = [](const std::string& from, std::int64_t offset, std::int64_t n) {
        return global("torch._utils", "_rebuild_tensor") + "(" + from + integer(offset) +
               tuple({n}) + tuple({1}) + "tR";
    };
    const std::string root = "(" + short_text("storage") + global("torch", "FloatStorage") +
                             short_text("0") + short_text("cpu") + integer(4);
    const std::string whole = root + "NtQ";
    const std::string view = root + "(" + short_text("view") + integer(1) + integer(3) + "ttQ";
    const std::string state = "(\x88\x89" + global("collections", "OrderedDict") + "(]tRtb";
    const std::string parameter = global("torch.nn.parameter", "Parameter") + "(" +
                                  rebuilt(whole, 0, 4) + "tR" + state;
    const std::string made_new = global("torch.nn.parameter", "Parameter") + "(" +
                                 rebuilt(view, 1, 2) + "t\x81" + state;
    const std::string filled = global("torch", "FloatTensor") + ")R(" + whole + integer(2) +
                               tuple({2}) + tuple({1}) + "tb";
    const std::string variable = global("torch.nn.parameter", "Parameter") + ")R(" +
                                 rebuilt(whole, 3, 1) + "NN\x88\x89tb";
    std::string pairs = "](";
    for (const auto& [name, value] :
         {std::pair{"a", parameter}, {"b", made_new}, {"c", filled}, {"d", variable}})
        pairs += "](" + short_text(name) + value + "e";
    const std::string object = global("collections", "OrderedDict") + "(" + pairs + "etR";

    const float values[] = {1, 2, 3, 4};
    const TensorFile file = parse_pth(
        stream(object, {std::string(reinterpret_cast<const char*>(values), 16)}), "test");
    ASSERT_EQ(file.tensors.size(), 4u);
    EXPECT_EQ(to_f32(file.tensors[0]), (std::vector<float>{1, 2, 3, 4}));
    EXPECT_EQ(to_f32(file.tensors[1]), (std::vector<float>{3, 4}));
    EXPECT_EQ(to_f32(file.tensors[2]), (std::vector<float>{3, 4}));
    EXPECT_EQ(to_f32(file.tensors[3]), (std::vector<float>{4}));
}

TEST(TensorFile, AStateDictIsFoundInATrainingScriptsDict) {
    for (const char* key : {"state_dict", "model", "net"}) {
        const std::string inner = ordered_dict(text("w") + tensor(storage("0", 1), 0, {1}, {1}));
        const std::string object = "}(" + text("epoch") + integer(3) + text(key) + inner + "u";
        const TensorFile file = parse_pth(stream(object, {std::string("\0\0\x80\x3f", 4)}), "test");
        ASSERT_EQ(file.tensors.size(), 1u) << key;
        EXPECT_EQ(file.tensors[0].name, "w");
    }
}

// --- safetensors ---

class Safetensors : public ::testing::Test {
protected:
    static std::span<const unsigned char> raw(const std::vector<float>& values) {
        return {reinterpret_cast<const unsigned char*>(values.data()), 4 * values.size()};
    }
    void write(const std::string& name, bool reversed = false) {
        std::vector<TensorToWrite> tensors = {{"b", ElementType::f32, {2, 2}, raw(four_)},
                                              {"a \"quoted\"", ElementType::f32, {1}, raw(one_)},
                                              {"empty", ElementType::f32, {0, 3}, {}},
                                              {"counter", ElementType::i64, {}, raw(eight_bytes_)}};
        if (reversed) std::reverse(tensors.begin(), tensors.end());
        write_safetensors(dir_ / name, tensors,
                          {{"format", "pt"}, {"text", "line\nline \xc3\xa4"}});
    }

    TempDir dir_;
    std::vector<float> four_ = {1, -2, 3.5f, 1e-30f}, one_ = {7}, eight_bytes_ = {0, 0};
};

TEST_F(Safetensors, WhatIsWrittenIsReadAgain) {
    write("a.safetensors");
    EXPECT_EQ(content_of(dir_ / "a.safetensors"), Content::safetensors);
    const TensorFile file = load_tensor_file(dir_ / "a.safetensors");
    EXPECT_EQ(file.kind, "safetensors");
    ASSERT_EQ(file.tensors.size(), 4u);
    EXPECT_EQ(file.tensors[0].name, "counter");  // the largest elements first
    EXPECT_EQ(file.tensors[1].name, "a \"quoted\"");
    EXPECT_EQ(file.tensors[2].name, "b");
    EXPECT_EQ(file.tensors[2].extents, (std::vector<std::int64_t>{2, 2}));
    EXPECT_EQ(to_f32(file.tensors[2]), four_);
    EXPECT_EQ(to_f32(file.tensors[3]).size(), 0u);
    ASSERT_EQ(file.metadata.size(), 2u);
    EXPECT_EQ(file.metadata[1].second, "line\nline \xc3\xa4");
    // The data begins aligned to 8 bytes.
    EXPECT_EQ((file.tensors[0].bytes.data() - file.bytes.data()) % 8, 0);
}

TEST_F(Safetensors, TheSameContentGivesTheSameBytes) {
    write("a.safetensors");
    write("b.safetensors", true);
    EXPECT_EQ(read_bytes(dir_ / "a.safetensors"), read_bytes(dir_ / "b.safetensors"));
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_.path()), {}), 2);
}

// The file is not at fault, and its permissions are no remedy.
TEST_F(Safetensors, TooManyOpenFilesIsTheMachinesFailure) {
    DEEPLAB_SKIP_UNDER_SANITIZERS();
    write("a.safetensors");
    const std::filesystem::path file = dir_ / "a.safetensors";
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit none{0, before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    std::string message;
    try {
        load_tensor_file(file);
    } catch (const DeviceError& error) {
        message = error.what();
    } catch (const std::exception& error) {
        message = cat("another kind: ", error.what());
    }
    setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_EQ(message, cat("cannot read ", file.string(),
                           ": Too many open files — the work cannot "
                           "go on — raise the limit of open files (ulimit -n)"));
}

// 640 is 80 02 in a file, as a pickle's protocol.
TEST_F(Safetensors, AHeaderOf640BytesIsNoPickle) {
    const auto written = [&](std::size_t more) {
        write_safetensors(dir_ / "a.safetensors", {{"a", ElementType::f32, {1}, raw(one_)}},
                          {{"text", std::string(more, 'x')}});
        return read_bytes(dir_ / "a.safetensors");
    };
    const auto bytes = written(640 - std::size_t{written(0).at(0)});  // padded to eights
    ASSERT_EQ(bytes.at(0), 0x80);
    ASSERT_EQ(bytes.at(1), 0x02);
    EXPECT_EQ(load_tensor_file(dir_ / "a.safetensors").tensors.at(0).name, "a");
}

TEST_F(Safetensors, AFailedWriteLeavesWhatWasThere) {
    EXPECT_THROW(write("nowhere/a.safetensors"), UsageError);
    write("a.safetensors");
    const auto before = read_bytes(dir_ / "a.safetensors");
    std::vector<TensorToWrite> wrong = {{"a", ElementType::f32, {3}, raw(one_)}};
    EXPECT_THROW(write_safetensors(dir_ / "a.safetensors", wrong, {}), LogicError);
    EXPECT_EQ(read_bytes(dir_ / "a.safetensors"), before);
}

TEST(TensorFile, HalfAndBfloat16AreExact) {
    // Every bit pattern, against the definition.
    std::string data;
    for (std::uint64_t bits = 0; bits < 65536; ++bits) data += little(bits, 2);
    const auto read = [&](const std::string& type) {
        const TensorFile file = parse_safetensors(
            safetensors(cat("{\"x\":{\"dtype\":\"", type,
                            "\",\"shape\":[65536],\"data_offsets\":[0,131072]}}"),
                        data),
            "test");
        return to_f32(file.tensors.at(0));
    };
    const auto half = read("F16"), brain = read("BF16");
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        const double sign = (bits & 0x8000) != 0 ? -1 : 1;
        const std::uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
        double expected = exponent == 0
                              ? std::ldexp(fraction / 1024.0, -14)
                              : std::ldexp(1 + fraction / 1024.0, static_cast<int>(exponent) - 15);
        if (exponent == 31) expected = fraction == 0 ? INFINITY : NAN;
        if (std::isnan(expected))
            EXPECT_TRUE(std::isnan(half[bits]));
        else
            EXPECT_EQ(half[bits], sign * expected) << bits;
        const std::uint32_t wide = bits << 16;
        EXPECT_EQ(std::memcmp(&brain[bits], &wide, 4), 0) << bits;
    }
}

}  // namespace
}  // namespace deeplab::io
