#pragma once
// A fresh folder for one test, removed with everything in it at the end of the test.

#include <filesystem>
#include <string>

namespace deeplab::testing {

class TempDir {
public:
    TempDir();
    ~TempDir();
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;

    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

}  // namespace deeplab::testing
