#include "deeplab/evaluate/evaluator.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <new>
#include <thread>

#include "deeplab/base/error.h"
#include "deeplab/base/limits.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/comm/agreement.h"
#include "deeplab/comm/mailbox.h"

namespace deeplab::evaluate {
namespace {

// The part of `rows` (channels bytes a pixel) that starts at (x0, y0) and is size x size.
std::vector<std::uint8_t> cut(const std::vector<std::uint8_t>& rows, std::int64_t width,
                              std::int64_t channels, std::int64_t x0, std::int64_t y0,
                              std::int64_t size) {
    std::vector<std::uint8_t> out;
    out.reserve(static_cast<std::size_t>(size * size * channels));
    for (std::int64_t y = y0; y < y0 + size; ++y) {
        const auto first = rows.begin() + static_cast<std::ptrdiff_t>((y * width + x0) * channels);
        out.insert(out.end(), first, first + static_cast<std::ptrdiff_t>(size * channels));
    }
    return out;
}

// Short side to `size`, the long one in proportion, rounded down; then the square in the middle. An
// odd rest is rounded to even, as Python's round(): the published numbers of this protocol were
// made that way.
void centre_crop(io::Image& image, io::Mask& truth, std::int64_t size) {
    const bool wide = image.width > image.height;
    const std::int64_t width = wide ? image.width * size / image.height : size;
    const std::int64_t height = wide ? size : image.height * size / image.width;
    image = data::resize_bilinear(image, width, height);
    truth = data::resize_nearest(truth, width, height);
    const auto first = [size](std::int64_t side) {
        return std::llrint(static_cast<double>(side - size) / 2.0);
    };
    const std::int64_t x0 = first(width), y0 = first(height);
    image.pixels = cut(image.pixels, width, 3, x0, y0, size);
    truth.labels = cut(truth.labels, width, 1, x0, y0, size);
    image.width = image.height = truth.width = truth.height = size;
}

void check_labels(const io::Mask& truth, const data::ClassTable& table, const std::string& where) {
    const int classes = static_cast<int>(table.classes.size());
    for (const std::uint8_t label : truth.labels) {
        if (label < classes || label == table.ignore) continue;
        throw DataError(cat("label ", static_cast<int>(label), " (", where,
                            ") — the classes are 0 to ", classes - 1, " and ", table.ignore,
                            " is ignored: the metrics would leave it out silently — "
                            "repair the mask, or pack with the right --classes"));
    }
}

// A rank that leaves an evaluation early tells the others, who look between their images: nobody
// waits for anybody while there are images.
class Departure {
public:
    explicit Departure(comm::Communicator& ranks)
        : ranks_(ranks), mailbox_(comm::make_mailbox(ranks, comm::MailboxThread::main)) {}

    bool heard() {
        if (mailbox_) letters_ += static_cast<std::int64_t>(mailbox_->receive().size());
        return told_ || letters_ > 0;
    }
    void tell() {
        if (heard()) return;
        told_ = true;
        for (int to = 0; mailbox_ && to < mailbox_->size(); ++to)
            if (to != mailbox_->rank()) mailbox_->send(to, "leaves");
    }
    // Until every rank has left its loop; a stop that is wanted meanwhile ends those of the others.
    void wait_for_all(const std::function<bool()>& stop) {
        const comm::Collective inside("end of the evaluation on all ranks");
        std::int64_t here = 1;
        const comm::Request all = ranks_.start_all_reduce(&here, 1, DType::i64, comm::ReduceOp::min,
                                                          "end of the evaluation");
        while (!ranks_.done(all)) {
            if (stop()) tell();
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        ranks_.finish(all);
    }
    // After wait_for_all(), collective: whether a rank has left early. Nobody's letters stay
    // behind.
    bool final() {
        std::int64_t tellers = told_ ? 1 : 0;
        ranks_.all_reduce(&tellers, 1, DType::i64, comm::ReduceOp::sum, "ranks that left early");
        while (mailbox_ && letters_ < tellers - (told_ ? 1 : 0)) heard();
        return tellers > 0;
    }

private:
    comm::Communicator& ranks_;
    std::unique_ptr<comm::Mailbox> mailbox_;  // empty: of one rank
    std::int64_t letters_ = 0;
    bool told_ = false;
};

void one_image(Predictor& predictor, data::ShardSet& shards, std::int64_t index,
               const EvaluationOptions& options, Confusion& confusion) {
    const data::Manifest& manifest = shards.manifest();
    std::string where = cat("split ", manifest.split, ", record ", index);
    try {
        const data::Record record = shards.read(index);
        where += cat(" (", record.id, ")");
        data::LabelledImage sample = data::decode(record, manifest.encoding, where);
        check_labels(sample.mask, manifest.classes, where);
        if (options.protocol == Protocol::centre_crop)
            centre_crop(sample.image, sample.mask, options.crop);
        where += cat(" of ", sample.image.width, "x", sample.image.height);
        const io::Mask predicted = predictor.predict(sample.image);
        confusion.add(sample.mask.labels, predicted.labels);
        if (options.on_image) options.on_image(index, record, sample.image, sample.mask, predicted);
    } catch (const DeviceError& error) {
        throw DeviceError(cat(where, ": ", error.what()));
    } catch (const std::bad_alloc&) {
        throw DeviceError(cat(where, ": out of memory", memory_limit(),
                              " — the image cannot be evaluated — shrink it, or use a machine with "
                              "more memory"));
    }
}

}  // namespace

const char* name(Protocol protocol) {
    switch (protocol) {
        case Protocol::full: return "full";
        case Protocol::centre_crop: return "centre-crop";
    }
    throw LogicError("unknown protocol");
}

Confusion evaluate_split(Predictor& predictor, data::ShardSet& shards,
                         const EvaluationOptions& options, comm::Communicator& communicator) {
    return *evaluate_until(predictor, shards, options, communicator, [] { return false; });
}

std::optional<Confusion> evaluate_until(Predictor& predictor, data::ShardSet& shards,
                                        const EvaluationOptions& options,
                                        comm::Communicator& communicator,
                                        const std::function<bool()>& stop) {
    const int classes = static_cast<int>(shards.manifest().classes.classes.size());
    expects(classes == predictor.classes(), "network and data set have the same classes");
    Confusion confusion(classes);
    Departure departure(communicator);
    std::exception_ptr failure;
    for (std::int64_t index = communicator.rank();
         index < shards.size() && !departure.heard() && !failure; index += communicator.size()) {
        if (stop()) {
            departure.tell();
            break;
        }
        try {
            one_image(predictor, shards, index, options, confusion);
        } catch (const Error&) {
            failure = std::current_exception();
            departure.tell();
        }
    }
    departure.wait_for_all(stop);
    comm::agreed(communicator, failure != nullptr, "images of the evaluation",
                 [&] { std::rethrow_exception(failure); });
    if (departure.final()) return std::nullopt;
    confusion.reduce(communicator);
    return confusion;
}

}  // namespace deeplab::evaluate
