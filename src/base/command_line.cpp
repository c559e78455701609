#include "deeplab/base/command_line.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <iostream>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/base/version.h"

namespace deeplab {

struct CommandLine::Impl {
    std::unique_ptr<CLI::App> owned;  // of the program; null for its commands
    CLI::App* app = nullptr;
    std::string program;
    // Checked by parse(), not by the parser: a command of the program does not need the program's
    // own options.
    std::vector<CLI::Option*> required;
    std::vector<std::unique_ptr<CommandLine>> commands;

    CLI::Option* add(CLI::Option* option, const std::string& value_name) const {
        option->capture_default_str();
        if (!value_name.empty()) option->type_name(value_name);
        return option;
    }

    // Finds what was not understood on this level; option names of this level are the candidates.
    void refuse_unknown() const {
        std::vector<std::string> names;
        for (const CLI::Option* option : app->get_options()) {
            if (!option->get_positional()) names.push_back(option->get_name());
        }
        const std::vector<std::string> rest = app->remaining();
        for (const std::string& word : rest) {
            if (word.size() < 2 || word[0] != '-') continue;
            const std::string unknown = word.substr(0, word.find('='));
            const std::string near = nearest(unknown, names);
            throw UsageError(
                cat("unknown option ", unknown, " — ", program, " does not have it — ",
                    near.empty() ? "see " + program + " --help" : "did you mean " + near + "?"));
        }
        if (rest.empty()) return;
        std::vector<std::string> command_names;
        for (const auto& command : commands)
            command_names.push_back(command->impl_->app->get_name());
        const std::string near = nearest(rest.front(), command_names);
        throw UsageError(
            cat("unexpected argument ", rest.front(), " — ", program, " does not take it — ",
                near.empty() ? "see " + program + " --help" : "did you mean " + near + "?"));
    }

    void check() const {
        refuse_unknown();
        for (const auto& command : commands) {
            if (command->chosen()) return command->impl_->check();
        }
        for (const CLI::Option* option : required) {
            if (option->count() == 0) {
                throw UsageError(cat(option->get_name(), " is missing — ", program,
                                     " cannot run without it — see ", program, " --help"));
            }
        }
    }
};

CommandLine::CommandLine(const std::string& program, const std::string& description,
                         const std::string& example)
    : impl_(std::make_unique<Impl>()) {
    impl_->owned = std::make_unique<CLI::App>(description, program);
    impl_->app = impl_->owned.get();
    impl_->program = program;
    impl_->app->set_help_flag("-h,--help", "Print this help and exit");
    impl_->app->set_version_flag(
        "--version", [program] { return cat(program, " ", version(), "\n", build_summary()); },
        "Print the version and exit");
    impl_->app->get_formatter()->column_width(34);
    impl_->app->allow_extras();
    std::string footer = "Example:";
    for (const std::string& line : split(example, '\n')) footer += "\n  " + line;
    impl_->app->footer(footer);
}

CommandLine::CommandLine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

CommandLine::~CommandLine() = default;

void CommandLine::option(const std::string& name, std::string& value, const std::string& help,
                         const Use& use) {
    CLI::Option* option = impl_->add(impl_->app->add_option(name, value, help), use.value_name);
    if (use.required) impl_->required.push_back(option);
    if (use.choices.empty()) return;
    if (use.value_name.empty()) {
        std::string names;
        for (const std::string& choice : use.choices) names += (names.empty() ? "" : "|") + choice;
        option->type_name(names);
    }
    // Empty text on success is the parser's convention for validators.
    const auto check = [choices = use.choices](const std::string& given) {
        if (std::find(choices.begin(), choices.end(), given) != choices.end()) return std::string();
        std::string names;
        for (const std::string& choice : choices) names += (names.empty() ? "" : ", ") + choice;
        const std::string near = nearest(given, choices);
        return cat("\"", given, "\" is not one of ", names,
                   near.empty() ? "" : " — did you mean " + near + "?");
    };
    option->check(CLI::Validator(check, ""));
}

void CommandLine::option(const std::string& name, std::string& value, const std::string& help) {
    option(name, value, help, Use{});
}

void CommandLine::option(const std::string& name, std::int64_t& value, const std::string& help) {
    impl_->add(impl_->app->add_option(name, value, help), "N");
}

void CommandLine::option(const std::string& name, double& value, const std::string& help) {
    impl_->add(impl_->app->add_option(name, value, help), "X");
}

void CommandLine::flag(const std::string& name, bool& value, const std::string& help) {
    impl_->app->add_flag(name, value, help);
}

void CommandLine::list(const std::string& name, std::vector<std::string>& values,
                       const std::string& help) {
    // One value per occurrence, so that a list does not swallow the arguments behind it.
    impl_->app->add_option(name, values, help)->expected(1)->allow_extra_args(false)->take_all();
}

void CommandLine::numbers(const std::string& name, std::vector<double>& values,
                          const std::string& help) {
    impl_->app->add_option(name, values, help)
        ->delimiter(',')
        ->expected(1)
        ->allow_extra_args(false)
        ->take_all()
        ->type_name("X,X,...");
}

void CommandLine::positional(const std::string& name, std::vector<std::string>& values,
                             const std::string& help, bool required) {
    expects(name.find(' ') == std::string::npos, "a name has no blanks: CLI11 2.4 refuses them");
    CLI::Option* option = impl_->app->add_option(name, values, help);
    if (required) impl_->required.push_back(option);
}

CommandLine& CommandLine::command(const std::string& name, const std::string& description) {
    auto impl = std::make_unique<Impl>();
    impl->app = impl_->app->add_subcommand(name, description);
    impl->app->footer("");
    impl->program = impl_->program + " " + name;
    impl_->commands.push_back(std::unique_ptr<CommandLine>(new CommandLine(std::move(impl))));
    return *impl_->commands.back();
}

bool CommandLine::chosen() const { return impl_->app->parsed(); }

bool CommandLine::given(const std::string& name) const { return impl_->app->count(name) > 0; }

bool CommandLine::parse(int argc, char** argv) {
    try {
        impl_->app->parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        if (log::rank() == 0) std::cout << impl_->app->help() << std::flush;
        return false;
    } catch (const CLI::CallForVersion& version_text) {
        if (log::rank() == 0) std::cout << version_text.what() << std::endl;
        return false;
    } catch (const CLI::ParseError& problem) {
        throw UsageError(cat(problem.what(), " — the command line was not understood — see ",
                             impl_->program, " --help"));
    }
    impl_->check();
    return true;
}

}  // namespace deeplab
