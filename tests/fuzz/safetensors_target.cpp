// safetensors: the format, and what a file of ours says of its network.

#include "deeplab/io/tensor_file.h"

#include <algorithm>

#include "deeplab/base/error.h"
#include "deeplab/model/deeplab.h"
#include "deeplab/weights/weights.h"
#include "fuzz/target.h"
#include "io/weights_files.h"

namespace deeplab::fuzz {
namespace {

void check_written_again(const io::TensorFile& file) {
    std::vector<io::TensorToWrite> tensors;
    for (const io::StoredTensor& t : file.tensors)
        tensors.push_back({t.name, t.type, t.extents, t.bytes});
    const auto path = scratch() / "again";
    io::write_safetensors(path, tensors, file.metadata);
    const io::TensorFile again = io::load_tensor_file(path);
    require(again.tensors.size() == file.tensors.size(), "every tensor is read back");
    for (const io::StoredTensor& t : again.tensors) {
        const auto same = std::find_if(file.tensors.begin(), file.tensors.end(),
                                       [&](const io::StoredTensor& s) { return s.name == t.name; });
        require(same != file.tensors.end() && same->extents == t.extents && same->type == t.type &&
                    std::ranges::equal(same->bytes, t.bytes),
                "a tensor is read back as it was");
    }
}

}  // namespace

void consume(std::span<const std::uint8_t> input) {
    const io::TensorFile file = io::parse_safetensors({input.begin(), input.end()}, "fuzz");
    for (const io::StoredTensor& t : file.tensors) {
        require(t.bytes.size() == static_cast<std::size_t>(t.elements()) * io::size_of(t.type),
                "a tensor has its bytes");
        io::to_f32(t);
    }
    check_written_again(file);

    const auto path = scratch() / "input";
    store(path, input);
    const weights::WeightsFile weights(path);
    const weights::WeightsInfo info = weights.info() ? *weights.info()
                                                     : weights::guess_info(weights);
    if (!weights.info()) return;
    const graph::Plan plan = model::inference_plan(info.model, 1, 33, 33);
    weights::import_weights(weights, plan, {});
}

std::vector<Bytes> seeds() {
    using testing::safetensors;
    std::vector<Bytes> all;
    all.push_back(safetensors("{}", ""));
    all.push_back(safetensors(
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I64","shape":[],)"
        R"("data_offsets":[8,16]},"c":{"dtype":"F16","shape":[0,3],"data_offsets":[16,16]}})",
        std::string(16, '\1')));
    all.push_back(safetensors(
        R"({"__metadata__":{"format":"pt","deeplab_hpc":"1","backbone":"resnet18",)"
        R"("output_stride":"16","num_classes":"2","width_divisor":"32","dropout":"[0.5, 0.5, 0.1]",)"
        R"("bn_eps":"1e-05","bn_momentum":"0.1","mean":"[0.4, 0.4, 0.4]","std":"[0.2, 0.2, 0.2]",)"
        R"("classes":"[{\"name\":\"a\",\"color\":[0,0,0]},{\"name\":\"b\",\"color\":[1,2,3]}]",)"
        R"("ignore":"255","step":"7","best_miou":"0.5","train_list_hash":"","config":""},)"
        R"("backbone.conv1.weight":{"dtype":"F32","shape":[2,3,7,7],"data_offsets":[0,1176]},)"
        R"("decoder.classifier.weight":{"dtype":"BF16","shape":[2,8],"data_offsets":[1176,1208]}})",
        std::string(1208, '\0')));
    all.push_back(
        safetensors(R"({"conv1.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                    R"("layer1.0.conv1.weight":{"dtype":"BOOL","shape":[1],"data_offsets":[1,2]}})",
                    "ab"));
    return all;
}

std::vector<std::string> dictionary() {
    return {"\"dtype\":\"F64\"",
            "\"shape\":[",
            "\"data_offsets\":[",
            "\"__metadata__\":{",
            "BF16",
            "I32",
            "I16",
            "I8",
            "U8",
            "BOOL",
            "18446744073709551615",
            "4294967296",
            "-1",
            "\"deeplab_hpc\":\"1\"",
            "\"width_divisor\":\"",
            "\"requires\":\"[]\"",
            "module.",
            "fc.weight",
            "num_batches_tracked"};
}

}  // namespace deeplab::fuzz
