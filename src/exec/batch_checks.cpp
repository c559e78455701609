#include "deeplab/exec/batch_checks.h"

#include <algorithm>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/graph/operands.h"

namespace deeplab::exec {

BatchChecks::BatchChecks(const graph::Plan& plan) {
    for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
        const graph::Tensor& tensor = plan.tensors[t];
        if (tensor.space != graph::Space::input) continue;
        const bool labels = tensor.dtype == DType::u8;
        std::int64_t& end = labels ? label_elements_ : image_elements_;
        inputs_.push_back({static_cast<graph::TensorId>(t), labels, end});
        end += tensor.shape.elements();
    }
    const auto drops = [&](graph::TensorId id) {
        const std::int64_t batch = plan.tensor(id).shape.n;
        expects(samples_ == 0 || samples_ == batch, "all dropouts of a plan have its batch");
        samples_ = batch;
    };
    for (const graph::Node& node : plan.nodes) {
        if (const auto* dropout = std::get_if<graph::Dropout>(&node.op)) {
            drops(operands(*dropout, node).x);
        } else if (const auto* gradient = std::get_if<graph::DropoutGrad>(&node.op)) {
            drops(operands(*gradient, node).dy);
        } else if (const auto* loss = std::get_if<graph::SegmentationLoss>(&node.op)) {
            const auto ids = operands(*loss, node);
            const Shape labels = plan.tensor(ids.labels).shape;
            classes_ = plan.tensor(ids.logits).shape.c;
            label_pixels_ = labels.h * labels.w;
            ignore_ = loss->ignore;
        }
    }
}

void BatchChecks::check_samples(const MicroBatch& micro_batch) const {
    expects(samples_ == 0 || static_cast<std::int64_t>(micro_batch.samples.size()) == samples_,
            "a micro-batch of a plan with dropout has the plan's samples");
}

void BatchChecks::check_images_and_labels(const MicroBatch& micro_batch) const {
    expects(static_cast<std::int64_t>(micro_batch.images.size()) == image_elements_,
            "a micro-batch has the plan's images");
    expects(static_cast<std::int64_t>(micro_batch.labels.size()) == label_elements_,
            "a micro-batch has the plan's labels");
    check_labels(micro_batch.labels, 0, label_pixels_);
}

void BatchChecks::check_labels(std::span<const std::uint8_t> labels, std::int64_t first_sample,
                               std::int64_t pixels) const {
    if (classes_ == 0) return;
    const auto wrong = [this](std::uint8_t label) {
        return static_cast<std::int64_t>(label) >= classes_ && label != ignore_;
    };
    // Counting vectorises; the place is looked for only when there is something to find.
    if (std::count_if(labels.begin(), labels.end(), wrong) == 0) return;
    const auto first = std::find_if(labels.begin(), labels.end(), wrong);
    throw DataError(cat(
        "label ", static_cast<int>(*first), " in sample ",
        first_sample + (first - labels.begin()) / pixels, " of the batch, of ", classes_,
        " classes and ignore label ", ignore_,
        " — the loss is not defined there — pack the data set again or change model.num_classes"));
}

}  // namespace deeplab::exec
