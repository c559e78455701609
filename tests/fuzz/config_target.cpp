// The training configuration: what is accepted can be written and read back unchanged.

#include <filesystem>

#include "deeplab/base/files.h"
#include "deeplab/config/config.h"
#include "fuzz/target.h"
#include "harness/source_dir.h"

namespace deeplab::fuzz {

void consume(std::span<const std::uint8_t> input) {
    const config::Config config = config::parse_config(text_of(input), "fuzz", {});
    const std::string written = config::to_toml(config);
    const config::Config back = config::parse_config(written, "written", {});
    require(config::frozen_differences(config, back).empty(), "what was written is read back");
    require(config::to_toml(back) == written, "what was written is written again");
    config::learning_rate(config, 0);
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all = {bytes_of(config::to_toml(config::Config())),
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
    const std::string whole = config::to_toml(config::Config());
    for (std::size_t begin = 0; begin < whole.size();) {
        const std::size_t end = std::min(whole.find('\n', begin), whole.size());
        if (end > begin) words.push_back(whole.substr(begin, end + 1 - begin));
        begin = end + 1;
    }
    return words;
}

}  // namespace deeplab::fuzz
