#include "deeplab/evaluate/confusion.h"

#include <limits>

#include "deeplab/base/error.h"

namespace deeplab::evaluate {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double ratio(double a, double b) { return b > 0 ? a / b : nan; }

}  // namespace

Confusion::Confusion(int classes) : classes_(classes) {
    expects(classes > 0 && classes <= 256, "labels of 1 to 256 classes fit into a byte");
    counts_.assign(static_cast<std::size_t>(classes) * static_cast<std::size_t>(classes), 0);
}

void Confusion::add(std::span<const std::uint8_t> truth, std::span<const std::uint8_t> predicted) {
    expects(truth.size() == predicted.size(), "truth and prediction have the same size");
    const auto classes = static_cast<std::size_t>(classes_);
    for (std::size_t i = 0; i < truth.size(); ++i) {
        if (truth[i] >= classes) continue;
        expects(predicted[i] < classes, "a prediction is a class");
        ++counts_[truth[i] * classes + predicted[i]];
    }
}

void Confusion::reduce(comm::Communicator& communicator) {
    communicator.all_reduce(counts_.data(), counts_.size(), DType::i64, comm::ReduceOp::sum,
                            "confusion matrix");
}

Metrics Confusion::metrics() const {
    const auto classes = static_cast<std::size_t>(classes_);
    double sum = 0, trace = 0, accuracies = 0, ious = 0, weighted = 0;
    int in_truth = 0, seen = 0;
    Metrics metrics;
    for (std::size_t i = 0; i < classes; ++i) {
        std::int64_t truth = 0, predicted = 0;
        for (std::size_t j = 0; j < classes; ++j) {
            truth += counts_[i * classes + j];
            predicted += counts_[j * classes + i];
        }
        const auto row = static_cast<double>(truth), column = static_cast<double>(predicted);
        const auto hit = static_cast<double>(counts_[i * classes + i]);
        const double iou = ratio(hit, row + column - hit);
        metrics.class_iou.push_back(iou);
        sum += row;
        trace += hit;
        if (row > 0) {
            accuracies += hit / row;
            weighted += row * iou;
            ++in_truth;
        }
        if (row + column > 0) {
            ious += iou;
            ++seen;
        }
    }
    metrics.pixel_accuracy = ratio(trace, sum);
    metrics.mean_pixel_accuracy = ratio(accuracies, in_truth);
    metrics.miou = ratio(ious, seen);
    metrics.fwiou = ratio(weighted, sum);
    return metrics;
}

}  // namespace deeplab::evaluate
