#include "record.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace deeplab::shim {
namespace {

std::vector<std::string>& complaints() {
    static std::vector<std::string> all;
    return all;
}

}  // namespace

Counts& counts() {
    static Counts all;
    return all;
}

void complain(std::string text) {
    auto& all = complaints();
    if (std::find(all.begin(), all.end(), text) != all.end()) return;
    std::fprintf(stderr, "the stand-in for CUDA complains: %s\n", text.c_str());
    all.push_back(std::move(text));
}

std::vector<std::string> take_complaints() { return std::exchange(complaints(), {}); }

}  // namespace deeplab::shim
