// Other ranks' values are this one's.
#include "deeplab/math/bf16.h"
#include "other_ranks.h"

namespace deeplab::testing {
namespace {

template <class T>
void multiply(void* data, std::int64_t count, int ranks) {
    auto* values = static_cast<T*>(data);
    for (std::int64_t i = 0; i < count; ++i) values[i] = values[i] * static_cast<T>(ranks);
}

class Product final : public OtherRanks::Sum {
    bool arrived() override { return true; }
};

class PretendedRanks final : public OtherRanks {
public:
    explicit PretendedRanks(int ranks) : ranks_(ranks) {}
    bool joined() override { return true; }
    void leave() override {}
    bool left() override { return true; }
    std::unique_ptr<Sum> start(const NcclCall& call, void* data) override {
        if (call.type == ncclFloat32) multiply<float>(data, call.count, ranks_);
        if (call.type == ncclFloat64) multiply<double>(data, call.count, ranks_);
        if (call.type == ncclBfloat16) {
            auto* values = static_cast<std::uint16_t*>(data);
            for (std::int64_t i = 0; i < call.count; ++i)
                values[i] = math::to_bf16(math::from_bf16(values[i]) * static_cast<float>(ranks_));
        }
        return std::make_unique<Product>();
    }

private:
    int ranks_;
};

}  // namespace

MakeOtherRanks& make_other_ranks() {
    static MakeOtherRanks now = [](const ncclUniqueId&, int,
                                   int ranks) -> std::unique_ptr<OtherRanks> {
        return std::make_unique<PretendedRanks>(ranks);
    };
    return now;
}

}  // namespace deeplab::testing
