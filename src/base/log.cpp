#include "deeplab/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>

#include "deeplab/base/text.h"

namespace deeplab::log {
namespace {

std::atomic<int> own_rank{0}, own_size{1};

spdlog::logger& logger() {
    // Never destroyed: threads and destructors of other static objects may still log at exit.
    static spdlog::logger* const instance = [] {
        auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
        auto* made = new spdlog::logger("deeplab", std::move(sink));
        made->set_pattern("%v");
        made->flush_on(spdlog::level::info);
        return made;
    }();
    return *instance;
}

}  // namespace

void set_rank(int rank, int size) {
    own_rank = rank;
    own_size = size;
}

int rank() { return own_rank; }

void info(const std::string& message) {
    if (own_rank == 0) logger().info("{}", message);
}

void warn(const std::string& message) { logger().warn("{}warning: {}", prefix(), message); }

void error(const std::string& message) { logger().error("{}error: {}", prefix(), message); }

std::string prefix() {
    if (own_size == 1) return "";
    return cat("[rank ", own_rank.load(), " @ ", host(), "] ");
}

std::string host() {
    std::array<char, 256> name{};
    if (gethostname(name.data(), name.size() - 1) != 0) return "unknown-host";
    const std::string full = name.data();
    return full.substr(0, full.find('.'));
}

}  // namespace deeplab::log
