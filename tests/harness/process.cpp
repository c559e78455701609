#include "harness/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <stdexcept>

#include "deeplab/base/clock.h"

namespace deeplab::testing {
namespace {
// Appends what is there to `text`; false at the end of the stream.
bool drain(int file, std::string& text) {
    std::array<char, 65536> buffer;
    const ssize_t bytes = read(file, buffer.data(), buffer.size());
    if (bytes < 0) return errno == EINTR || errno == EAGAIN;
    text.append(buffer.data(), static_cast<std::size_t>(bytes));
    return bytes > 0;
}

[[noreturn]] void become(const std::vector<std::string>& arguments, const ProcessOptions& options,
                         int out, int err) {
    setpgid(0, 0);
    const int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) _exit(126);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);  // containers have no other user
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    for (const std::string& variable : options.environment)
        putenv(const_cast<char*>(variable.c_str()));
    std::vector<char*> argv;
    for (const std::string& argument : arguments)
        argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(127);
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& arguments,
                          const ProcessOptions& options) {
    std::array<int, 2> out{}, err{};
    if (pipe2(out.data(), O_CLOEXEC) != 0 || pipe2(err.data(), O_CLOEXEC) != 0)
        throw std::runtime_error("no pipe");
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("cannot start " + arguments.at(0));
    if (child == 0) become(arguments, options, out[1], err[1]);
    setpgid(child, child);  // in both: whoever comes first
    close(out[1]);
    close(err[1]);

    ProcessResult result;
    const auto end = Clock::now() + std::chrono::duration<double>(options.timeout_s);
    bool out_open = true, err_open = true, timed_out = false;
    while (out_open || err_open) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now())
                              .count();
        if (left <= 0) {
            timed_out = true;
            break;
        }
        std::array<pollfd, 2> files{
            {{out_open ? out[0] : -1, POLLIN, 0}, {err_open ? err[0] : -1, POLLIN, 0}}};
        if (poll(files.data(), files.size(), static_cast<int>(left)) <= 0) continue;
        if (files[0].revents != 0) out_open = drain(out[0], result.out);
        if (files[1].revents != 0) err_open = drain(err[0], result.err);
    }
    if (timed_out) kill(-child, SIGKILL);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    kill(-child, SIGKILL);  // what the program may have left behind in its group
    close(out[0]);
    close(err[0]);
    if (timed_out) {
        result.exit_code = 124;
    } else {
        result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return result;
}

ProcessResult run_process(const std::vector<std::string>& arguments) {
    return run_process(arguments, {});
}

bool have_mpirun() { return std::string(DEEPLAB_MPIRUN) != ""; }

std::vector<std::string> with_ranks(int ranks, const std::vector<std::string>& arguments) {
    if (ranks == 1 || !have_mpirun()) return arguments;
    // Separated by spaces in CMake: --oversubscribe --bind-to none …
    std::vector<std::string> command = {DEEPLAB_MPIRUN};
    std::string flags = DEEPLAB_MPIRUN_FLAGS;
    for (std::size_t begin = 0; begin < flags.size();) {
        const std::size_t space = std::min(flags.find(' ', begin), flags.size());
        if (space > begin) command.push_back(flags.substr(begin, space - begin));
        begin = space + 1;
    }
    command.push_back("-np");
    command.push_back(std::to_string(ranks));
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
}

std::string program(const std::string& name) { return DEEPLAB_BINARY_DIR "/bin/" + name; }
std::string helper(const std::string& name) { return DEEPLAB_BINARY_DIR "/tests/" + name; }

}  // namespace deeplab::testing
