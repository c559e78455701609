#pragma once
// What is enqueued on a stream: done at once, or kept while a graph is captured and done when it is
// launched. As on a device, nothing of a captured step happens before that.

#include <functional>
#include <utility>
#include <vector>

namespace deeplab::shim {

using Graph = std::vector<std::function<void()>>;
inline Graph* capturing = nullptr;

inline void enqueue(std::function<void()> work) {
    if (capturing != nullptr)
        capturing->push_back(std::move(work));
    else
        work();
}

}  // namespace deeplab::shim
