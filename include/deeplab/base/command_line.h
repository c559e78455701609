#pragma once
// Command lines: a thin facade over the option parser, so that all programs answer alike: --help
// with an example,
// --version, and an unknown option is refused with the nearest valid one.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace deeplab {

class CommandLine {
public:
    // `example` is shown at the end of --help, one command per line.
    CommandLine(const std::string& program, const std::string& description,
                const std::string& example);
    ~CommandLine();
    CommandLine(const CommandLine&) = delete;
    CommandLine& operator=(const CommandLine&) = delete;

    struct Use {
        bool required = false;
        std::vector<std::string> choices;  // empty: anything
        std::string value_name;            // shown in --help, e.g. "DIR"
    };

    // Each binds an option ("--name") to a variable that holds its default; the variable must
    // outlive parse().
    void option(const std::string& name, std::string& value, const std::string& help,
                const Use& use);
    void option(const std::string& name, std::string& value, const std::string& help);
    void option(const std::string& name, std::int64_t& value, const std::string& help);
    void option(const std::string& name, double& value, const std::string& help);
    void flag(const std::string& name, bool& value, const std::string& help);
    void list(const std::string& name, std::vector<std::string>& values,
              const std::string& help);  // repeatable
    void numbers(const std::string& name, std::vector<double>& values,
                 const std::string& help);  // 0.5,1,1.5
    // `name` is one word.
    void positional(const std::string& name, std::vector<std::string>& values,
                    const std::string& help, bool required);

    // A named command of the program with options of its own ("deeplab-pack verify DIR"); owned by
    // this object.
    CommandLine& command(const std::string& name, const std::string& description);
    bool chosen() const;                        // of a command: it stands on the command line
    bool given(const std::string& name) const;  // the option stands on the command line

    // Throws UsageError for a wrong command line. Returns false when --help or --version was
    // printed: exit 0.
    bool parse(int argc, char** argv);

private:
    struct Impl;
    explicit CommandLine(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace deeplab
