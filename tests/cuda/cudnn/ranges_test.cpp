// What a profiler sees of a run's phases. NVTX asks a program for a profiler that is part of it by
// this name.

#define NVTX_NO_IMPL
#include <gtest/gtest.h>
#include <nvtx3/nvToolsExt.h>

#include <string>

#include "deeplab/comm/activity.h"
#include "deeplab/cuda/cuda_backend.h"

namespace {

std::string seen;

int NVTX_API push(nvtxDomainHandle_t, const nvtxEventAttributes_t* range) {
    seen += std::string(range->message.ascii) + " " + std::to_string(range->payload.llValue) + " (";
    return 0;
}
int NVTX_API pop(nvtxDomainHandle_t) {
    seen += ")";
    return 0;
}

int NVTX_API profiler(NvtxGetExportTableFunc_t table_of) {
    const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(
        table_of(NVTX_ETID_CALLBACKS));
    NvtxFunctionTable table = nullptr;
    if (!callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, nullptr)) return 0;
    *table[NVTX_CBID_CORE2_DomainRangePushEx] = reinterpret_cast<NvtxFunctionPointer>(push);
    *table[NVTX_CBID_CORE2_DomainRangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
    return 1;
}

}  // namespace

extern "C" NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr;
NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = profiler;

namespace deeplab {
namespace {

TEST(CudaRanges, ArePhases) {
    cuda::show_phases();
    {
        const comm::Phase step("training", 7);
        const comm::Phase inner("forward, backward, update", 7);
    }
    comm::observe_phases(nullptr);
    EXPECT_EQ(seen, "training 7 (forward, backward, update 7 ())");
}

}  // namespace
}  // namespace deeplab
