// The half of every target that is the same: libFuzzer's entry points, and NAME --corpus DIR DICT,
// which writes the seeds and the dictionary.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string_view>
#include <system_error>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "fuzz/target.h"

namespace deeplab::fuzz {

Bytes bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

std::string text_of(std::span<const std::uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

const std::filesystem::path& scratch() {
    static const std::filesystem::path dir = [] {
        const auto made = std::filesystem::temp_directory_path() / cat("deeplab-fuzz-", ::getpid());
        std::filesystem::create_directories(made);
        std::atexit([] {
            std::error_code ignored;
            std::filesystem::remove_all(scratch(), ignored);
        });
        return made;
    }();
    return dir;
}

void store(const std::filesystem::path& path, std::span<const std::uint8_t> bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
}

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

std::vector<Bytes> random_seeds(std::size_t count) {
    std::mt19937 random(1);
    std::vector<Bytes> all = {Bytes()};
    while (all.size() < count) {
        Bytes& bytes = all.emplace_back(all.size() * 8);
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    }
    return all;
}

namespace {

// libFuzzer's form of a dictionary: a quoted word a line.
std::string quoted(const std::string& word) {
    std::string line = "\"";
    for (const char c : word) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, "\\x%02X", static_cast<unsigned char>(c));
        const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
        line += plain ? std::string(1, c) : std::string(escaped);
    }
    return line + "\"\n";
}

void write_corpus(const std::filesystem::path& dir, const std::filesystem::path& words) {
    std::filesystem::create_directories(dir);
    std::size_t number = 0;
    for (const Bytes& seed : seeds()) store(dir / cat("seed-", number++), seed);
    std::string lines;
    for (const std::string& word : dictionary()) lines += quoted(word);
    store(words, bytes_of(lines));
}

}  // namespace
}  // namespace deeplab::fuzz

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
    if (*count == 4 && std::string_view((*arguments)[1]) == "--corpus") {
        deeplab::fuzz::write_corpus((*arguments)[2], (*arguments)[3]);
        std::exit(0);
    }
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        deeplab::fuzz::consume({data, size});
    } catch (const deeplab::Error&) {
    }
    return 0;
}
