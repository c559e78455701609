#include "deeplab/comm/agreement.h"

#include <string>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"

namespace deeplab::comm {

void agreed(Communicator& control, bool mine, const char* what, const std::function<void()>& body) {
    std::string verdict;
    if (mine) {
        try {
            body();
        } catch (const Error& error) {
            const std::string who = control.rank() == 0
                                        ? ""
                                        : cat("rank ", control.rank(), " (", log::host(), "): ");
            verdict = cat(static_cast<int>(error.code()), " ", who, error.what());
        }
    }
    for (const std::string& text : control.all_gather(verdict, what)) {
        if (text.empty()) continue;
        const auto space = text.find(' ');
        throw_error(static_cast<ExitCode>(std::stoi(text.substr(0, space))),
                    text.substr(space + 1));
    }
}

}  // namespace deeplab::comm
