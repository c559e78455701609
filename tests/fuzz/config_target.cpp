// The training configuration: what is accepted can be written and read back unchanged.

#include <filesystem>

#include "deeplab/base/files.h"
#include "deeplab/train/config.h"
#include "fuzz/target.h"
#include "harness/source_dir.h"

namespace deeplab::fuzz {

void consume(std::span<const std::uint8_t> input) {
    const train::Config config = train::parse_config(text_of(input), "fuzz", {});
    const std::string written = train::to_toml(config);
    const train::Config back = train::parse_config(written, "written", {});
    require(train::frozen_differences(config, back).empty(), "what was written is read back");
    require(train::to_toml(back) == written, "what was written is written again");
    train::learning_rate(config, 0);
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all = {bytes_of(train::to_toml(train::Config())),
                              bytes_of("[[optimizer.groups]]\nmatch = \"^head(a|b)*[0-9]{2}\"\n"
                                       "lr_multiplier = 10\nsteps_per_iteration = 2\n")};
    for (const auto& entry :
         std::filesystem::directory_iterator(testing::source_dir() / "jobs/configs"))
        all.push_back(bytes_of(read_text(entry.path())));
    return all;
}

// Every line of a whole configuration.
std::vector<std::string> dictionary() {
    std::vector<std::string> words = {"[[optimizer.groups]]\n", "match = "};
    const std::string whole = train::to_toml(train::Config());
    for (std::size_t begin = 0; begin < whole.size();) {
        const std::size_t end = std::min(whole.find('\n', begin), whole.size());
        if (end > begin) words.push_back(whole.substr(begin, end + 1 - begin));
        begin = end + 1;
    }
    return words;
}

}  // namespace deeplab::fuzz
