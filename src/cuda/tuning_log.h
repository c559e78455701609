#pragma once
// What was tried to find the engines of convolutions, as a table: a line a candidate, in the order
// of trial, columns separated by tabs. Nothing here throws for the sake of a bad file.

#include <filesystem>
#include <string>

#include "engine_search.h"

namespace deeplab::cuda {

class TuningLog {
public:
    explicit TuningLog(std::filesystem::path file);  // empty: nothing is written

    // Appends a convolution's lines; a file that is new gets the columns' names first:
    // convolution, place (in the heuristics' list, from 1), of (its length), engine, knobs, notes,
    // workspace (bytes), build_s (seconds to make the plan), ms, result ("chosen", "slower", or why
    // it is left out). What is not known is empty.
    void append(const std::string& key, const SearchResult& result);

private:
    std::filesystem::path file_;
};

}  // namespace deeplab::cuda
