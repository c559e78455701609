#pragma once
// Files with the weights of a small network, as a test changes them.

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "deeplab/io/tensor_file.h"
#include "deeplab/model/deeplab.h"
#include "deeplab/weights/weights.h"
#include "harness/messages.h"
#include "harness/temp_dir.h"

namespace deeplab::weights {

inline graph::Plan plan_of(const model::ModelConfig& config) {
    return model::inference_plan(config, 1, 33, 33);
}
inline model::ModelConfig tiny(int classes, const std::string& backbone = "resnet18") {
    return {.backbone = backbone, .num_classes = classes, .width_divisor = 32};
}

class MadeWeights : public ::testing::Test {
protected:
    struct Made {
        std::vector<std::int64_t> extents;
        std::vector<float> values;
    };
    void SetUp() override {
        for (const auto& p : plan_.parameters) {
            tensors_[p.name] = {
                p.kind == graph::ParameterKind::conv_weight
                    ? std::vector<std::int64_t>{p.shape.n, p.shape.c, p.shape.h, p.shape.w}
                    : std::vector<std::int64_t>{p.shape.c},
                model::initial_value(p, plan_, 3)};
        }
        for (const auto& s : plan_.states)
            tensors_[s.name] = {{s.shape.c},
                                std::vector<float>(static_cast<std::size_t>(s.shape.c), 0.5f)};
    }

    WeightsFile written(const std::string& name = "made.safetensors") {
        std::vector<io::TensorToWrite> list;
        for (const auto& [tensor, made] : tensors_) {
            list.push_back({tensor,
                            type_,
                            made.extents,
                            {reinterpret_cast<const unsigned char*>(made.values.data()),
                             4 * made.values.size()}});
        }
        io::write_safetensors(dir_ / name, list, {});
        return WeightsFile(dir_ / name);
    }
    std::string refused(const ImportOptions& options = {}) {
        return testing::message_of<DataError>([&] { import_weights(written(), plan_, options); });
    }

    testing::TempDir dir_;
    graph::Plan plan_ = plan_of(tiny(4));
    std::map<std::string, Made> tensors_;
    io::ElementType type_ = io::ElementType::f32;
};

}  // namespace deeplab::weights
