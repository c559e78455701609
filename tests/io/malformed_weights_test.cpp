// Weight files that are damaged, or made to harm: all refused with a DataError (exit code 3) that
// says why, without a crash, and without an allocation much larger than the file.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <random>

#include "deeplab/base/text.h"
#include "weights_files.h"

namespace deeplab::io {
namespace {

using namespace deeplab::testing;

std::string pth_refusal(const ByteVector& bytes) {
    return refusal([&] { parse_pth(bytes, "test"); });
}
std::string safetensors_refusal(const std::string& header, const std::string& data) {
    return refusal([&] { parse_safetensors(safetensors(header, data), "test"); });
}
void expect_part(const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
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
            refusal([&] {
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
    expect_part(pth_refusal(bytes), "checksum");
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
    expect_part(whole(R"("dtype":"F32","shape":[3],"data_offsets":[0,16])"), "should have 12");
    expect_part(whole(R"("dtype":"F32","shape":[4],"data_offsets":[0,17])"), "0..17 of 16");
    expect_part(whole(R"("dtype":"F32","shape":[4],"data_offsets":[16,0])"), "16..0");
    expect_part(whole(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), "8 bytes at the end");
    expect_part(whole(R"("dtype":"F32","shape":[2],"data_offsets":[8,16])"), "no tensor owns");
    expect_part(whole(R"("dtype":"F32","shape":[-4],"data_offsets":[0,16])"), "sizes");
    expect_part(whole(R"("dtype":"F32","shape":["4"],"data_offsets":[0,16])"), "sizes");
    expect_part(whole(R"("dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16])"), "F8_E4M3");
    expect_part(whole(R"("dtype":"F32","shape":[4],"data_offsets":[0,16,16])"), "two data_offsets");
    expect_part(whole(R"("shape":[4],"data_offsets":[0,16])"), "no dtype");
    expect_part(whole(R"("dtype":"F32","data_offsets":[0,16])"), "no list shape");
    // Sizes whose product overflows, beside a zero too.
    for (const char* shape :
         {"[4294967296,4294967296]", "[9223372036854775807]", "[3037000500,3037000500,2]",
          "[0,9223372036854775807]", "[9223372036854775807,0,9223372036854775807]"}) {
        expect_part(whole(cat(R"("dtype":"F32","shape":)", shape, R"(,"data_offsets":[0,0])")),
                    "more elements");
    }
    const std::string a = entry("a", R"("dtype":"F32","shape":[3],"data_offsets":[0,12])");
    const std::string b = entry("b", R"("dtype":"F32","shape":[2],"data_offsets":[8,16])");
    expect_part(safetensors_refusal("{" + a + "," + b + "}", data), "overlaps");
    expect_part(safetensors_refusal("{" + a + "," + a + "}", data), "twice");
    expect_part(safetensors_refusal("[1]", data), "not an object");
    expect_part(safetensors_refusal("{\"__metadata__\":{\"a\":1}}", ""), "not a string");
    expect_part(safetensors_refusal("{" + a, data), "JSON");
    expect_part(safetensors_refusal(std::string(100000, '['), ""), "nested");
    expect_part(safetensors_refusal("[" + std::string(2'000'000, ','), ""), "million values");
}

TEST(MalformedWeights, SafetensorsHeaderLengths) {
    const auto with_length = [](std::uint64_t length) {
        return refusal([&] {
            parse_safetensors(bytes_of(little(length, 8) + "{}" + std::string(6, ' ')), "test");
        });
    };
    EXPECT_EQ(with_length(8), "");
    expect_part(with_length(9), "claims 9 bytes, 8 follow");
    expect_part(with_length(0), "JSON");
    expect_part(with_length(100'000'000), "8 follow");
    expect_part(with_length(100'000'001), "claims 100000001 bytes");
    expect_part(with_length(~std::uint64_t{0}), "claims");
}

TEST(MalformedWeights, PicklesWithCodeAreRefusedByName) {
    EXPECT_EQ(code_refusal("N"), "");
    // os.system('…') in all spellings.
    expect_part(code_refusal(global("os", "system") + "(" + text("true") + "tR"),
                "the global os.system is refused");
    expect_part(code_refusal(global("posix", "system") + "(" + text("true") + "tR"),
                "posix.system");
    expect_part(code_refusal(global("builtins", "eval") + "(" + text("1") + "tR"),
                "builtins.eval is refused");
    expect_part(code_refusal(global("__builtin__", "getattr") + "(" + text("1") + "tR"),
                "__builtin__.getattr");
    expect_part(code_refusal("(ios\nsystem\n"), "INST is refused");
    expect_part(code_refusal("(" + text("os") + "o"), "OBJ is refused");
    expect_part(code_refusal(text("os") + text("system") + "\x93"), "STACK_GLOBAL is refused");
    expect_part(code_refusal("\x82\x01"), "EXT1 is refused");
    expect_part(code_refusal("P0\n"), "PERSID is refused");
    expect_part(code_refusal("\x80\x04N"), "protocol 4 is refused");
    expect_part(code_refusal("\xff"), "no opcode 255");
    expect_part(code_refusal(global("torch", "load") + "(" + text("f") + "tR"), "torch.load");
    expect_part(code_refusal(global("collections", "OrderedDict\xc3") + ")R"), "is refused");
    // The byte is named.
    const std::string message = code_refusal(global("os", "system"));
    expect_part(message, "object, byte ");

    // Known globals, used as no state dict uses them.
    expect_part(code_refusal(global("torch", "FloatStorage") + "(K\1tR"),
                "a call of torch.FloatStorage is refused");
    expect_part(code_refusal(text("text") + ")R"), "no known global");
    expect_part(code_refusal("N)R"), "no known global");
    expect_part(code_refusal("N)\x81"), "no known global");
    // A state for something that could have a __setstate__.
    expect_part(code_refusal("]}b"), "BUILD");
    expect_part(code_refusal("}}(" + text("__setstate__") + "Nub"), "BUILD");
    expect_part(
        code_refusal(global("collections", "OrderedDict") + ")R}(" + text("__class__") + "Nub"),
        "BUILD");
    expect_part(code_refusal(global("collections", "OrderedDict") + "}b"), "BUILD");
    expect_part(code_refusal("(" + text("module") + global("torch", "FloatStorage") + text("f") +
                             text("code") + "tQ"),
                "a whole module with its code");
}

TEST(MalformedWeights, PicklesThatAreNoProgram) {
    for (const char* broken :
         {"",     "t",   "a",   "s",  "u",    "e",   "R",    "b",  "Q",   "q\1", "h\1",
          "\x85", "(((", "NNN", "Na", "N(Nu", "]Ns", "}(Nu", "(N", "]}e", "N(Ne"}) {
        EXPECT_NE(code_refusal(broken), "") << broken;
    }
    expect_part(pth_refusal(stream("}", {})), "no tensor");
    expect_part(pth_refusal(stream("N", {})), "no state dict");
    expect_part(pth_refusal(stream(tensor(storage("0", 1), 0, {1}, {1}), {"1234"})),
                "no state dict");
    const std::string one = tensor(storage("0", 1), 0, {1}, {1});
    expect_part(pth_refusal(stream("}(" + text("w") + one + text("w") + one + "u", {"1234"})),
                "stands twice");
    expect_part(pth_refusal(stream("}(K\1" + one + "u", {"1234"})), "no text");
    // A text longer than the file, and a name without an end.
    expect_part(code_refusal("X\xff\xff\xff\xff"), "truncated");
    expect_part(code_refusal("c" + std::string(300, 'a')), "no end");
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
    expect_part(made(6, 1, {2, 3}, {3, 1}, six), "beyond its storage");
    expect_part(made(6, 0, {2, 3}, {4, 1}, six), "beyond its storage");
    expect_part(made(6, 7, {0}, {1}, six), "beyond its storage");
    expect_part(made(6, huge, {1}, {1}, six), "beyond its storage");
    expect_part(made(6, 0, {2, 2}, {huge, huge}, six), "beyond its storage");
    expect_part(made(6, 0, {7}, {0}, six), "expanded");
    expect_part(made(6, 0, {huge, huge}, {0, 0}, six), "expanded");
    expect_part(made(6, 0, {huge, 0, huge}, {0, 0, 0}, six), "expanded");
    expect_part(made(6, 0, {-1}, {1}, six), "negative");
    expect_part(made(6, -1, {1}, {1}, six), "do not fit");
    expect_part(made(6, 0, {1}, {1, 1}, six), "do not fit");
    expect_part(made(5, 0, {1}, {1}, six), "24 bytes and should have 5 F32");
    expect_part(made(huge, 0, {1}, {1}, six), "should have");
    expect_part(made(-1, 0, {1}, {1}, six), "negative size");
    expect_part(made(6, 0, std::vector<std::int64_t>(17, 1), std::vector<std::int64_t>(17, 1), six),
                "too many dimensions");
}

TEST(MalformedWeights, StreamsOfStorages) {
    const std::string object = "}(" + text("w") + tensor(storage("0", 1), 0, {1}, {1}) + "u";
    expect_part(pth_refusal(stream(object, {})), "storage 0 is missing");
    expect_part(pth_refusal(stream(object, {"1234", "1234"})), "nothing needs the storage 1");
    ByteVector bytes = stream(object, {"1234"});
    bytes.push_back(0);
    expect_part(pth_refusal(bytes), "unknown bytes");
    bytes = stream(object, {"1234"});
    bytes[bytes.size() - 5] = 0x7f;  // its claimed size: 2^62 and more elements
    expect_part(pth_refusal(bytes), "beyond the file");
    std::string old = text_of(golden("types_stream.pth"));
    old[5] = 'x';
    expect_part(pth_refusal(bytes_of(old)), "magic number");
    std::string big = text_of(golden("types_stream.pth"));
    const std::size_t at = big.find("little_endian");
    ASSERT_NE(at, std::string::npos);
    big[big.find('\x88', at)] = '\x89';
    expect_part(pth_refusal(bytes_of(big)), "little-endian");
}

// A few hundred kilobytes that ask for gigabytes, or for hours.
TEST(MalformedWeights, BombsStaySmall) {
    // Each tuple holds the one before twice: 2^200 elements if anybody followed. Nobody does.
    std::string doubled("Nq\0", 3);
    for (int i = 0; i < 200; ++i) doubled += std::string("h\0\x86q\0", 5);
    EXPECT_EQ(code_refusal(doubled), "");
    expect_part(code_refusal(std::string(100000, '(')), "nested deeper");
    expect_part(code_refusal(std::string(1'200'000, 'N')), "more objects");
    expect_part(code_refusal("(" + std::string("N") + "q" + std::string(1, '\0') +
                             [] {
                                 std::string recalls;
                                 for (int i = 0; i < 1'100'000; ++i)
                                     recalls += std::string("h\0", 2);
                                 return recalls;
                             }()),
                "stack is larger");
    // One list of a hundred thousand pairs, made into a dict a thousand times.
    std::string pairs = "]q" + std::string(1, '\0') + "(";
    std::string pair = "](NNeq\1";
    pairs += pair;
    for (int i = 0; i < 100000; ++i) pairs += "h\1";
    pairs += "e";
    std::string dicts;
    for (int i = 0; i < 1000; ++i)
        dicts += global("collections", "OrderedDict") + std::string("(h\0tR", 5);
    expect_part(code_refusal("(" + pairs + dicts + "t"), "more objects");
    // A call with a tuple of half a million arguments, again and again.
    std::string arguments = "(" + std::string(500000, 'N') + "tq" + std::string(1, '\0');
    for (int i = 0; i < 1000; ++i)
        arguments += global("_codecs", "encode") + std::string("h\0R", 3);
    expect_part(code_refusal("(" + arguments + "t"), "no short tuple");

    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    EXPECT_LT(usage.ru_maxrss, 1'000'000) << "kB";
}

TEST(MalformedWeights, Zips) {
    const std::string object = "}(" + text("w") + tensor(storage("0", 1), 0, {1}, {1}) + "u";
    EXPECT_EQ(pth_refusal(archive(object, {"1234"})), "");
    expect_part(pth_refusal(archive(object, {})), "storage 0 is missing");
    expect_part(pth_refusal(archive(object, {"12345"})), "5 bytes and should have 1 F32");
    expect_part(pth_refusal(archive(global("os", "system"), {})), "os.system is refused");
    const std::string pickle = "\x80\x02" + object + ".";
    expect_part(pth_refusal(zip({{"a/data.pkl", pickle}, {"b/data.pkl", pickle}})), "several");
    expect_part(pth_refusal(zip({{"a/data.pkl", pickle}, {"a/data.pkl", pickle}})), "stands twice");
    expect_part(pth_refusal(zip({{"a/data.pkl", pickle}, {"a/byteorder", "big"}})),
                "little-endian");
    expect_part(pth_refusal(zip({{"a/data.pkl", pickle}, {"a/constants.pkl", ""}})), "TorchScript");
    expect_part(pth_refusal(zip({{"a/data.pkl", pickle + "."}})), "does not end");
    expect_part(pth_refusal(zip({{"data.pkl", pickle}})), "without data.pkl");

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
    expect_part(changed(end, "XX"), "truncated");
    expect_part(changed(entry, "XX"), "directory is damaged");
    expect_part(changed(entry + 10, "\x08"), "compressed");
    expect_part(changed(entry + 8, "\x01"), "encrypted");
    expect_part(changed(entry + 20, "\x01"), "compressed");
    expect_part(changed(entry + 28, "\xff\xff"), "directory is damaged");
    expect_part(changed(entry + 42, "\x01"), "not where the directory says");
    if (end64 != std::string::npos && locator != std::string::npos) {
        expect_part(changed(end64, "XX"), "zip64");
        expect_part(changed(locator + 8, std::string(8, '\xff')), "zip64");
        expect_part(changed(end64 + 32, std::string(8, '\xff')), "too many entries");
        expect_part(changed(end64 + 40, std::string(8, '\xff')), "outside the file");
        expect_part(changed(end64 + 48, std::string(8, '\xff')), "outside the file");
    }
    std::string renamed = whole;
    for (std::size_t at = 0; (at = renamed.find("data.pkl", at)) != std::string::npos;)
        renamed.replace(at, 8, "data.pkx");
    expect_part(pth_refusal(bytes_of(renamed)), "without data.pkl");
    expect_part(pth_refusal(bytes_of("PK\5\6" + std::string(18, '\0'))), "without data.pkl");
}

}  // namespace
}  // namespace deeplab::io
