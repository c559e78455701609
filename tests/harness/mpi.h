#pragma once
// For *_mpi_test.cpp: the communicator of all ranks that the test program was started with (1, 2
// and 3 in ctest).

#include <filesystem>
#include <memory>
#include <string>

#include "deeplab/comm/communicator.h"
#include "harness/temp_dir.h"

namespace deeplab::testing {

comm::Communicator& world();

// Rank 0's temporary folder, which all ranks use. Made collectively, and left after a barrier.
class SharedDir {
public:
    SharedDir() {
        if (world().rank() == 0) own_ = std::make_unique<TempDir>();
        path_ = world().all_gather(own_ ? own_->path().string() : "", "folder of the test").front();
    }
    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

private:
    std::unique_ptr<TempDir> own_;
    std::filesystem::path path_;
};

}  // namespace deeplab::testing
