#pragma once
// Static division of work: the same number of threads always computes the same parts.

#include <omp.h>

#include <cstdint>

namespace deeplab::cpu {

class Threads {
public:
    // 0: the processors this process may run on.
    explicit Threads(int count);

    int count() const { return count_; }

    // For the calling thread and those it will fork, oneDNN's too: their number, and denormals as
    // zero. Before every compile and run, which may come from different threads.
    void prepare() const;

    // part(thread, first, last) for the thread-th of count() parts of [0, n).
    template <class Part>
    void split(std::int64_t n, const Part& part) const {
        if (count_ == 1) {
            part(0, std::int64_t{0}, n);
            return;
        }
#pragma omp parallel for num_threads(count_) schedule(static, 1)
        for (int t = 0; t < count_; ++t) part(t, n * t / count_, n * (t + 1) / count_);
    }

    // item(i) for i in [0, n).
    template <class Item>
    void each(std::int64_t n, const Item& item) const {
        split(n, [&](int, std::int64_t first, std::int64_t last) {
            for (std::int64_t i = first; i < last; ++i) item(i);
        });
    }

private:
    int count_;
};

}  // namespace deeplab::cpu
