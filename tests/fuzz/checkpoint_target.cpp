// A checkpoint: a valid one, what the input changes in its description before it is written (so
// that its own checksum holds) and in the file afterwards.

#include <cmath>

#include "deeplab/config/config.h"
#include "deeplab/weights/checkpoint.h"
#include "fuzz/hdf5_edits.h"
#include "fuzz/target.h"

namespace deeplab::fuzz {
namespace {

const std::string kNames[] = {"backbone",
                              "output_stride",
                              "num_classes",
                              "width_divisor",
                              "ignore",
                              "step",
                              "best_miou",
                              "config",
                              "train_list_hash",
                              "content_hash",
                              "requires",
                              "format",
                              "format_version",
                              "model/dropout",
                              "model/batch_norm_eps_momentum",
                              "normalisation/mean",
                              "normalisation/std",
                              "classes/names",
                              "classes/colors",
                              "parameters/head.weight",
                              "momentum/head.weight",
                              "states/head.mean",
                              "parameters",
                              "momentum",
                              "states",
                              "parameters/",
                              "momentum/",
                              "states/",
                              "/"};

weights::Snapshot valid() {
    weights::Snapshot snapshot;
    weights::WeightsInfo& info = snapshot.info;
    info.model.backbone = "resnet18";
    info.model.num_classes = 3;
    info.model.width_divisor = 8;
    info.classes.classes = {{"a", {0, 0, 0}}, {"b", {1, 2, 3}}, {"c", {4, 5, 6}}};
    info.step = 7;
    info.config_toml = config::to_toml(config::Config());
    info.train_list_hash = "0123456789abcdef";
    snapshot.extents = {{"head.weight", {3, 2, 1, 1}}, {"head.bias", {3}}, {"head.mean", {3}}};
    snapshot.parameters = {{"head.weight", std::vector<float>(6, 1)}, {"head.bias", {1, 2, 3}}};
    snapshot.momentum = {{"head.weight", std::vector<float>(6, 2)}, {"head.bias", {4, 5, 6}}};
    snapshot.states = {{"head.mean", {7, 8, 9}}};
    return snapshot;
}

void change(FuzzedDataProvider& input, weights::WeightsInfo& info) {
    const auto number = [&] { return input.ConsumeIntegral<int>(); };
    const auto real = [&] {
        return input.ConsumeBool() ? input.ConsumeFloatingPoint<float>()
                                   : input.PickValueInArray({0.0f, -1.0f, NAN, INFINITY});
    };
    switch (input.ConsumeIntegralInRange(0, 12)) {
        case 1: info.model.backbone = free_text(input, 20); break;
        case 2: info.model.output_stride = number(); break;
        case 3: info.model.num_classes = number(); break;
        case 4: info.model.width_divisor = number(); break;
        case 5: info.classes.ignore = number(); break;
        case 6: info.step = input.ConsumeIntegral<std::int64_t>(); break;
        case 7: info.model.dropout[1] = real(); break;
        case 8: info.model.bn_eps = real(); break;
        case 9: info.model.bn_momentum = real(); break;
        case 10: info.model.std[input.ConsumeIntegralInRange<std::size_t>(0, 2)] = real(); break;
        case 11: info.config_toml = free_text(input, 100); break;
        case 12:
            info.classes.classes.resize(input.ConsumeIntegralInRange<std::size_t>(0, 300));
            break;
        default: break;
    }
}

// What eval, predict and --resume do with it before they look at the tensors.
void use(const weights::WeightsInfo& info) {
    const std::int64_t side = model::padded_size(info.model, 1);
    const graph::Plan plan = model::inference_plan(info.model, 1, side, side);
    require(!plan.parameters.empty(), "a network");
    require(info.classes.classes.size() == static_cast<std::size_t>(info.model.num_classes),
            "a name for each class");
    require(info.step >= 0, "steps are counted from 0");
    const std::vector<std::uint8_t> pixel = {1, 2, 3};
    float planes[3];
    data::normalise({1, 1, pixel}, info.normalisation(), planes);
    for (const float v : planes) require(std::isfinite(v), "a pixel is a number");
    config::parse_config(info.config_toml, "fuzz", {});
}

}  // namespace

void consume(std::span<const std::uint8_t> bytes) {
    FuzzedDataProvider input(bytes.data(), bytes.size());
    const auto path = scratch() / "step-0000007.h5";
    weights::Snapshot snapshot = valid();
    for (int i = input.ConsumeIntegralInRange(0, 2); i > 0; --i) change(input, snapshot.info);
    weights::save_checkpoint(path, snapshot);
    apply_edits(input, path, kNames);
    const weights::Snapshot loaded = weights::load_checkpoint(path);
    for (const auto* tensors : {&loaded.parameters, &loaded.states, &loaded.momentum})
        for (const auto& [name, values] : *tensors) {
            std::int64_t elements = 1;
            for (const std::int64_t extent : loaded.extents.at(name)) elements *= extent;
            require(elements == static_cast<std::int64_t>(values.size()), "extents fit the values");
        }
    use(loaded.info);
}

std::vector<Bytes> seeds() { return random_seeds(64); }

std::vector<std::string> dictionary() { return {"resnet18", "resnet50", "resnet101"}; }

}  // namespace deeplab::fuzz
