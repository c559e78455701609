// Weight files that are damaged, or made to harm: all refused with a DataError (exit code 3) that
// says why, without a crash, and without an allocation much larger than the file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <random>

#include "deeplab/base/text.h"
#include "harness/messages.h"
#include "weights_files.h"

namespace deeplab::io {
namespace {

using ::testing::HasSubstr;
using namespace deeplab::testing;

std::string pth_refusal(const ByteVector& bytes) {
    return message_of<DataError>([&] { parse_pth(bytes, "test"); });
}
std::string safetensors_refusal(const std::string& header, const std::string& data) {
    return message_of<DataError>([&] { parse_safetensors(safetensors(header, data), "test"); });
}
// A state dict with one good tensor and, before it, whatever a test wants to smuggle in.
std::string with_good_tensor(const std::string& smuggled) {
    return "}(" + text("x") + smuggled + text("w") + tensor(storage("0", 1), 0, {1}, {1}) + "u";
}
std::string code_refusal(const std::string& smuggled) {
    return pth_refusal(stream(with_good_tensor(smuggled), {std::string(4, '\0')}));
}

ByteVector small_safetensors() {
    return safetensors(
        R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
        R"("b":{"dtype":"I64","shape":[],"data_offsets":[8,16]}})",
        std::string(16, '\1'));
}

TEST(MalformedWeights, EveryTruncationIsRefused) {
    const auto cut = [](const ByteVector& whole, const auto& parse) {
        for (std::size_t size = 0; size < whole.size(); ++size) {
            const ByteVector part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
            EXPECT_THROW(parse(part, "test"), DataError) << size << " of " << whole.size();
        }
        EXPECT_NO_THROW(parse(whole, "test"));
    };
    cut(read_bytes(golden("types.pth")), parse_pth);
    cut(read_bytes(golden("types_stream.pth")), parse_pth);
    cut(small_safetensors(), parse_safetensors);
}

// Any other exception than a DataError, and any read out of bounds, ends the test.
TEST(MalformedWeights, FlippedBitsAreRefusedOrHarmless) {
    std::mt19937 random(1);
    const auto flip = [&](ByteVector whole, const auto& parse, int times) {
        for (int i = 0; i < times; ++i) {
            ByteVector bytes = whole;
            for (int n = 0; n <= i % 3; ++n)
                bytes[random() % bytes.size()] ^= static_cast<unsigned char>(1 << random() % 8);
            message_of<DataError>([&] {
                for (const auto& t : parse(std::move(bytes), "test").tensors) to_f32(t);
            });
        }
    };
    flip(read_bytes(golden("types.pth")), parse_pth, 1000);
    flip(read_bytes(golden("types_stream.pth")), parse_pth, 1000);
    flip(small_safetensors(), parse_safetensors, 1000);
}

TEST(MalformedWeights, AStorageOfAZipIsHeldAgainstItsChecksum) {
    const std::string whole = text_of(golden("types.pth"));
    const float value = -7 / 8.0f;  // the first of "float"
    const std::size_t at = whole.find(std::string(reinterpret_cast<const char*>(&value), 4) +
                                      std::string("\0\0\x40\xbf", 4));
    ASSERT_NE(at, std::string::npos);
    ByteVector bytes = bytes_of(whole);
    bytes[at] ^= 1;
    EXPECT_THAT(pth_refusal(bytes), HasSubstr("checksum"));
}

TEST(MalformedWeights, SafetensorsHeaders) {
    const std::string data(16, '\0');
    const auto entry = [](const std::string& name, const std::string& rest) {
        return cat("\"", name, "\":{", rest, "}");
    };
    const auto whole = [&](const std::string& rest) {
        return safetensors_refusal("{" + entry("a", rest) + "}", data);
    };
    EXPECT_EQ(whole(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"), "");
    EXPECT_THAT(whole(R"("dtype":"F32","shape":[3],"data_offsets":[0,16])"),
                HasSubstr("should have 12"));
    EXPECT_THAT(whole(R"("dtype":"F32","shape":[4],"data_offsets":[0,17])"),
                HasSubstr("0..17 of 16"));
    EXPECT_THAT(whole(R"("dtype":"F32","shape":[4],"data_offsets":[16,0])"), HasSubstr("16..0"));
    EXPECT_THAT(whole(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"),
                HasSubstr("8 bytes at the end"));
    EXPECT_THAT(whole(R"("dtype":"F32","shape":[2],"data_offsets":[8,16])"),
                HasSubstr("no tensor owns"));
    EXPECT_THAT(whole(R"("dtype":"F32","shape":[-4],"data_offsets":[0,16])"), HasSubstr("sizes"));
    EXPECT_THAT(whole(R"("dtype":"F32","shape":["4"],"data_offsets":[0,16])"), HasSubstr("sizes"));
    EXPECT_THAT(whole(R"("dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16])"),
                HasSubstr("F8_E4M3"));
    EXPECT_THAT(whole(R"("dtype":"F32","shape":[4],"data_offsets":[0,16,16])"),
                HasSubstr("two data_offsets"));
    EXPECT_THAT(whole(R"("shape":[4],"data_offsets":[0,16])"), HasSubstr("no dtype"));
    EXPECT_THAT(whole(R"("dtype":"F32","data_offsets":[0,16])"), HasSubstr("no list shape"));
    // Sizes whose product overflows, beside a zero too.
    for (const char* shape :
         {"[4294967296,4294967296]", "[9223372036854775807]", "[3037000500,3037000500,2]",
          "[0,9223372036854775807]", "[9223372036854775807,0,9223372036854775807]"}) {
        EXPECT_THAT(whole(cat(R"("dtype":"F32","shape":)", shape, R"(,"data_offsets":[0,0])")),
                    HasSubstr("more elements"));
    }
    const std::string a = entry("a", R"("dtype":"F32","shape":[3],"data_offsets":[0,12])");
    const std::string b = entry("b", R"("dtype":"F32","shape":[2],"data_offsets":[8,16])");
    EXPECT_THAT(safetensors_refusal("{" + a + "," + b + "}", data), HasSubstr("overlaps"));
    EXPECT_THAT(safetensors_refusal("{" + a + "," + a + "}", data), HasSubstr("twice"));
    EXPECT_THAT(safetensors_refusal("[1]", data), HasSubstr("not an object"));
    EXPECT_THAT(safetensors_refusal("{\"__metadata__\":{\"a\":1}}", ""), HasSubstr("not a string"));
    EXPECT_THAT(safetensors_refusal("{" + a, data), HasSubstr("JSON"));
    EXPECT_THAT(safetensors_refusal(std::string(100000, '['), ""), HasSubstr("nested"));
    EXPECT_THAT(safetensors_refusal("[" + std::string(2'000'000, ','), ""),
                HasSubstr("million values"));
}

TEST(MalformedWeights, SafetensorsHeaderLengths) {
    const auto with_length = [](std::uint64_t length) {
        return message_of<DataError>([&] {
            parse_safetensors(bytes_of(little(length, 8) + "{}" + std::string(6, ' ')), "test");
        });
    };
    EXPECT_EQ(with_length(8), "");
    EXPECT_THAT(with_length(9), HasSubstr("claims 9 bytes, 8 follow"));
    EXPECT_THAT(with_length(0), HasSubstr("JSON"));
    EXPECT_THAT(with_length(100'000'000), HasSubstr("8 follow"));
    EXPECT_THAT(with_length(100'000'001), HasSubstr("claims 100000001 bytes"));
    EXPECT_THAT(with_length(~std::uint64_t{0}), HasSubstr("claims"));
}

TEST(MalformedWeights, PicklesWithCodeAreRefusedByName) {
    EXPECT_EQ(code_refusal("N"), "");
    // os.system('…') in all spellings.
    EXPECT_THAT(code_refusal(global("os", "system") + "(" + text("true") + "tR"),
                HasSubstr("the global os.system is refused"));
    EXPECT_THAT(code_refusal(global("posix", "system") + "(" + text("true") + "tR"),
                HasSubstr("posix.system"));
    EXPECT_THAT(code_refusal(global("builtins", "eval") + "(" + text("1") + "tR"),
                HasSubstr("builtins.eval is refused"));
    EXPECT_THAT(code_refusal(global("__builtin__", "getattr") + "(" + text("1") + "tR"),
                HasSubstr("__builtin__.getattr"));
    EXPECT_THAT(code_refusal("(ios\nsystem\n"), HasSubstr("INST is refused"));
    EXPECT_THAT(code_refusal("(" + text("os") + "o"), HasSubstr("OBJ is refused"));
    EXPECT_THAT(code_refusal(text("os") + text("system") + "\x93"),
                HasSubstr("STACK_GLOBAL is refused"));
    EXPECT_THAT(code_refusal("\x82\x01"), HasSubstr("EXT1 is refused"));
    EXPECT_THAT(code_refusal("P0\n"), HasSubstr("PERSID is refused"));
    EXPECT_THAT(code_refusal("\x80\x04N"), HasSubstr("protocol 4 is refused"));
    EXPECT_THAT(code_refusal("\xff"), HasSubstr("no opcode 255"));
    EXPECT_THAT(code_refusal(global("torch", "load") + "(" + text("f") + "tR"),
                HasSubstr("torch.load"));
    EXPECT_THAT(code_refusal(global("collections", "OrderedDict\xc3") + ")R"),
                HasSubstr("is refused"));
    // The byte is named.
    const std::string message = code_refusal(global("os", "system"));
    EXPECT_THAT(message, HasSubstr("object, byte "));

    // Known globals, used as no state dict uses them.
    EXPECT_THAT(code_refusal(global("torch", "FloatStorage") + "(K\1tR"),
                HasSubstr("a call of torch.FloatStorage is refused"));
    EXPECT_THAT(code_refusal(text("text") + ")R"), HasSubstr("no known global"));
    EXPECT_THAT(code_refusal("N)R"), HasSubstr("no known global"));
    EXPECT_THAT(code_refusal("N)\x81"), HasSubstr("no known global"));
    // A state for something that could have a __setstate__.
    EXPECT_THAT(code_refusal("]}b"), HasSubstr("BUILD"));
    EXPECT_THAT(code_refusal("}}(" + text("__setstate__") + "Nub"), HasSubstr("BUILD"));
    EXPECT_THAT(
        code_refusal(global("collections", "OrderedDict") + ")R}(" + text("__class__") + "Nub"),
        HasSubstr("BUILD"));
    EXPECT_THAT(code_refusal(global("collections", "OrderedDict") + "}b"), HasSubstr("BUILD"));
    EXPECT_THAT(code_refusal("(" + text("module") + global("torch", "FloatStorage") + text("f") +
                             text("code") + "tQ"),
                HasSubstr("a whole module with its code"));
}

TEST(MalformedWeights, PicklesThatAreNoProgram) {
    for (const char* broken :
         {"",     "t",   "a",   "s",  "u",    "e",   "R",    "b",  "Q",   "q\1", "h\1",
          "\x85", "(((", "NNN", "Na", "N(Nu", "]Ns", "}(Nu", "(N", "]}e", "N(Ne"}) {
        EXPECT_NE(code_refusal(broken), "") << broken;
    }
    EXPECT_THAT(pth_refusal(stream("}", {})), HasSubstr("no tensor"));
    EXPECT_THAT(pth_refusal(stream("N", {})), HasSubstr("no state dict"));
    EXPECT_THAT(pth_refusal(stream(tensor(storage("0", 1), 0, {1}, {1}), {"1234"})),
                HasSubstr("no state dict"));
    const std::string one = tensor(storage("0", 1), 0, {1}, {1});
    EXPECT_THAT(pth_refusal(stream("}(" + text("w") + one + text("w") + one + "u", {"1234"})),
                HasSubstr("stands twice"));
    EXPECT_THAT(pth_refusal(stream("}(K\1" + one + "u", {"1234"})), HasSubstr("no text"));
    // A text longer than the file, and a name without an end.
    EXPECT_THAT(code_refusal("X\xff\xff\xff\xff"), HasSubstr("truncated"));
    EXPECT_THAT(code_refusal("c" + std::string(300, 'a')), HasSubstr("no end"));
}

TEST(MalformedWeights, TensorsBeyondTheirStorage) {
    const auto made = [](std::int64_t elements, std::int64_t offset,
                         const std::vector<std::int64_t>& extents,
                         const std::vector<std::int64_t>& strides, const std::string& bytes) {
        const std::string t = tensor(storage("0", elements), offset, extents, strides);
        return pth_refusal(stream("}(" + text("w") + t + "u", {bytes}));
    };
    const std::string six(24, '\0');
    constexpr std::int64_t huge = INT64_MAX;
    EXPECT_EQ(made(6, 0, {2, 3}, {3, 1}, six), "");
    EXPECT_EQ(made(6, 0, {2, 1}, {3, huge}, six), "");  // never taken
    EXPECT_EQ(made(6, 6, {0}, {1}, six), "");
    EXPECT_THAT(made(6, 1, {2, 3}, {3, 1}, six), HasSubstr("beyond its storage"));
    EXPECT_THAT(made(6, 0, {2, 3}, {4, 1}, six), HasSubstr("beyond its storage"));
    EXPECT_THAT(made(6, 7, {0}, {1}, six), HasSubstr("beyond its storage"));
    EXPECT_THAT(made(6, huge, {1}, {1}, six), HasSubstr("beyond its storage"));
    EXPECT_THAT(made(6, 0, {2, 2}, {huge, huge}, six), HasSubstr("beyond its storage"));
    EXPECT_THAT(made(6, 0, {7}, {0}, six), HasSubstr("expanded"));
    EXPECT_THAT(made(6, 0, {huge, huge}, {0, 0}, six), HasSubstr("expanded"));
    EXPECT_THAT(made(6, 0, {huge, 0, huge}, {0, 0, 0}, six), HasSubstr("expanded"));
    EXPECT_THAT(made(6, 0, {-1}, {1}, six), HasSubstr("negative"));
    EXPECT_THAT(made(6, -1, {1}, {1}, six), HasSubstr("do not fit"));
    EXPECT_THAT(made(6, 0, {1}, {1, 1}, six), HasSubstr("do not fit"));
    EXPECT_THAT(made(5, 0, {1}, {1}, six), HasSubstr("24 bytes and should have 5 F32"));
    EXPECT_THAT(made(huge, 0, {1}, {1}, six), HasSubstr("should have"));
    EXPECT_THAT(made(-1, 0, {1}, {1}, six), HasSubstr("negative size"));
    EXPECT_THAT(made(6, 0, std::vector<std::int64_t>(17, 1), std::vector<std::int64_t>(17, 1), six),
                HasSubstr("too many dimensions"));
}

TEST(MalformedWeights, StreamsOfStorages) {
    const std::string object = "}(" + text("w") + tensor(storage("0", 1), 0, {1}, {1}) + "u";
    EXPECT_THAT(pth_refusal(stream(object, {})), HasSubstr("storage 0 is missing"));
    EXPECT_THAT(pth_refusal(stream(object, {"1234", "1234"})),
                HasSubstr("nothing needs the storage 1"));
    ByteVector bytes = stream(object, {"1234"});
    bytes.push_back(0);
    EXPECT_THAT(pth_refusal(bytes), HasSubstr("unknown bytes"));
    bytes = stream(object, {"1234"});
    bytes[bytes.size() - 5] = 0x7f;  // its claimed size: 2^62 and more elements
    EXPECT_THAT(pth_refusal(bytes), HasSubstr("beyond the file"));
    std::string old = text_of(golden("types_stream.pth"));
    old[5] = 'x';
    EXPECT_THAT(pth_refusal(bytes_of(old)), HasSubstr("magic number"));
    std::string big = text_of(golden("types_stream.pth"));
    const std::size_t at = big.find("little_endian");
    ASSERT_NE(at, std::string::npos);
    big[big.find('\x88', at)] = '\x89';
    EXPECT_THAT(pth_refusal(bytes_of(big)), HasSubstr("little-endian"));
}

// A few hundred kilobytes that ask for gigabytes, or for hours.
TEST(MalformedWeights, BombsStaySmall) {
    // Each tuple holds the one before twice: 2^200 elements if anybody followed. Nobody does.
    std::string doubled("Nq\0", 3);
    for (int i = 0; i < 200; ++i) doubled += std::string("h\0\x86q\0", 5);
    EXPECT_EQ(code_refusal(doubled), "");
    EXPECT_THAT(code_refusal(std::string(100000, '(')), HasSubstr("nested deeper"));
    EXPECT_THAT(code_refusal(std::string(1'200'000, 'N')), HasSubstr("more objects"));
    EXPECT_THAT(code_refusal("(" + std::string("N") + "q" + std::string(1, '\0') +
                             [] {
                                 std::string recalls;
                                 for (int i = 0; i < 1'100'000; ++i)
                                     recalls += std::string("h\0", 2);
                                 return recalls;
                             }()),
                HasSubstr("stack is larger"));
    // One list of a hundred thousand pairs, made into a dict a thousand times.
    std::string pairs = "]q" + std::string(1, '\0') + "(";
    std::string pair = "](NNeq\1";
    pairs += pair;
    for (int i = 0; i < 100000; ++i) pairs += "h\1";
    pairs += "e";
    std::string dicts;
    for (int i = 0; i < 1000; ++i)
        dicts += global("collections", "OrderedDict") + std::string("(h\0tR", 5);
    EXPECT_THAT(code_refusal("(" + pairs + dicts + "t"), HasSubstr("more objects"));
    // A call with a tuple of half a million arguments, again and again.
    std::string arguments = "(" + std::string(500000, 'N') + "tq" + std::string(1, '\0');
    for (int i = 0; i < 1000; ++i)
        arguments += global("_codecs", "encode") + std::string("h\0R", 3);
    EXPECT_THAT(code_refusal("(" + arguments + "t"), HasSubstr("no short tuple"));

    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    EXPECT_LT(usage.ru_maxrss, 1'000'000) << "kB";
}

TEST(MalformedWeights, Zips) {
    const std::string object = "}(" + text("w") + tensor(storage("0", 1), 0, {1}, {1}) + "u";
    EXPECT_EQ(pth_refusal(archive(object, {"1234"})), "");
    EXPECT_THAT(pth_refusal(archive(object, {})), HasSubstr("storage 0 is missing"));
    EXPECT_THAT(pth_refusal(archive(object, {"12345"})),
                HasSubstr("5 bytes and should have 1 F32"));
    EXPECT_THAT(pth_refusal(archive(global("os", "system"), {})),
                HasSubstr("os.system is refused"));
    const std::string pickle = "\x80\x02" + object + ".";
    EXPECT_THAT(pth_refusal(zip({{"a/data.pkl", pickle}, {"b/data.pkl", pickle}})),
                HasSubstr("several"));
    EXPECT_THAT(pth_refusal(zip({{"a/data.pkl", pickle}, {"a/data.pkl", pickle}})),
                HasSubstr("stands twice"));
    EXPECT_THAT(pth_refusal(zip({{"a/data.pkl", pickle}, {"a/byteorder", "big"}})),
                HasSubstr("little-endian"));
    EXPECT_THAT(pth_refusal(zip({{"a/data.pkl", pickle}, {"a/constants.pkl", ""}})),
                HasSubstr("TorchScript"));
    EXPECT_THAT(pth_refusal(zip({{"a/data.pkl", pickle + "."}})), HasSubstr("does not end"));
    EXPECT_THAT(pth_refusal(zip({{"data.pkl", pickle}})), HasSubstr("without data.pkl"));

    const std::string whole = text_of(golden("types.pth"));
    const auto changed = [&](std::size_t at, const std::string& to) {
        std::string bytes = whole;
        bytes.replace(at, to.size(), to);
        return pth_refusal(bytes_of(bytes));
    };
    const std::size_t end = whole.rfind("PK\5\6"), end64 = whole.rfind("PK\6\6"),
                      locator = whole.rfind("PK\6\7"), entry = whole.find("PK\1\2");
    ASSERT_NE(end, std::string::npos);
    ASSERT_NE(entry, std::string::npos);
    EXPECT_THAT(changed(end, "XX"), HasSubstr("truncated"));
    EXPECT_THAT(changed(entry, "XX"), HasSubstr("directory is damaged"));
    EXPECT_THAT(changed(entry + 10, "\x08"), HasSubstr("compressed"));
    EXPECT_THAT(changed(entry + 8, "\x01"), HasSubstr("encrypted"));
    EXPECT_THAT(changed(entry + 20, "\x01"), HasSubstr("compressed"));
    EXPECT_THAT(changed(entry + 28, "\xff\xff"), HasSubstr("directory is damaged"));
    EXPECT_THAT(changed(entry + 42, "\x01"), HasSubstr("not where the directory says"));
    if (end64 != std::string::npos && locator != std::string::npos) {
        EXPECT_THAT(changed(end64, "XX"), HasSubstr("zip64"));
        EXPECT_THAT(changed(locator + 8, std::string(8, '\xff')), HasSubstr("zip64"));
        EXPECT_THAT(changed(end64 + 32, std::string(8, '\xff')), HasSubstr("too many entries"));
        EXPECT_THAT(changed(end64 + 40, std::string(8, '\xff')), HasSubstr("outside the file"));
        EXPECT_THAT(changed(end64 + 48, std::string(8, '\xff')), HasSubstr("outside the file"));
    }
    std::string renamed = whole;
    for (std::size_t at = 0; (at = renamed.find("data.pkl", at)) != std::string::npos;)
        renamed.replace(at, 8, "data.pkx");
    EXPECT_THAT(pth_refusal(bytes_of(renamed)), HasSubstr("without data.pkl"));
    EXPECT_THAT(pth_refusal(bytes_of("PK\5\6" + std::string(18, '\0'))),
                HasSubstr("without data.pkl"));
}

}  // namespace
}  // namespace deeplab::io
