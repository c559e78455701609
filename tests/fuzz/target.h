#pragma once
// What a fuzz target defines, once in NAME_target.cpp; main.cpp calls it.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace deeplab::fuzz {

using Bytes = std::vector<std::uint8_t>;

// Reads `input` as its reader would. An exception derived from Error is a refusal, which is fine;
// any other one, a crash, a leak and an allocation beyond the limits of run.sh are findings.
void consume(std::span<const std::uint8_t> input);

// Where the search starts: valid inputs, one for each road through the reader.
std::vector<Bytes> seeds();

// Words that mutations insert whole: names of keys, markers of a format. May be empty.
std::vector<std::string> dictionary();

// The rest is for use by the targets.

Bytes bytes_of(const std::string& text);
std::string text_of(std::span<const std::uint8_t> bytes);
// A folder of this process for readers that take a path; removed at the end (run.sh keeps it in
// memory).
const std::filesystem::path& scratch();
void store(const std::filesystem::path& path, std::span<const std::uint8_t> bytes);
// Ends the process, with what is wrong: for properties that must hold of whatever was accepted.
void require(bool condition, const char* what);
// Pseudo-random inputs of different lengths: seeds of targets whose input chooses what a file
// holds.
std::vector<Bytes> random_seeds(std::size_t count);

}  // namespace deeplab::fuzz
