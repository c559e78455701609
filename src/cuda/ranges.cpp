#include <nvtx3/nvToolsExt.h>

#include "deeplab/comm/activity.h"
#include "deeplab/cuda/cuda_backend.h"

namespace deeplab::cuda {
namespace {

class Ranges final : public comm::PhaseObserver {
public:
    void begin(const char* name, std::int64_t step) override {
        nvtxEventAttributes_t range{};
        range.version = NVTX_VERSION;
        range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
        range.messageType = NVTX_MESSAGE_TYPE_ASCII;
        range.message.ascii = name;
        range.payloadType = NVTX_PAYLOAD_TYPE_INT64;
        range.payload.llValue = step;
        nvtxDomainRangePushEx(domain_, &range);
    }
    void end() override { nvtxDomainRangePop(domain_); }

private:
    nvtxDomainHandle_t domain_ = nvtxDomainCreateA("deeplab");
};

}  // namespace

void show_phases() {
    static Ranges ranges;
    comm::observe_phases(&ranges);
}

}  // namespace deeplab::cuda
