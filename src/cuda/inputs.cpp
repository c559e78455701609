// A micro-batch's inputs: checked, sent in as few copies as can be, made into the plan's tensors.

#include <algorithm>
#include <cstring>

#include "deeplab/math/crop.h"
#include "executable.h"
#include "layout.h"

namespace deeplab::cuda {
namespace {

void copy(std::byte* to, const PinnedBuffer& from, std::int64_t begin, std::int64_t end,
          cudaStream_t stream) {
    check(cudaMemcpyAsync(to, from.as<std::byte>() + begin, static_cast<std::size_t>(end - begin),
                          cudaMemcpyDefault, stream),
          "a batch");
}

template <class T>
void put(const PinnedBuffer& to, std::int64_t at, std::span<const T> values) {
    if (!values.empty()) std::memcpy(to.as<std::byte>() + at, values.data(), values.size_bytes());
}

std::int64_t words_bytes(const exec::DecodedSample& sample) {
    return apart(static_cast<std::int64_t>(sample.crop.size_bytes()));
}

std::int64_t pixel_count(const exec::DecodedSample& sample) {
    math::CropHeader h;
    std::memcpy(&h, sample.crop.data(), sizeof h);
    return std::int64_t{h.width} * h.height;
}

}  // namespace

void Inbox::reserve(std::int64_t bytes) {
    if (bytes <= static_cast<std::int64_t>(received.bytes())) return;
    PinnedBuffer larger_sent(static_cast<std::size_t>(bytes), "a batch to be sent");
    DeviceBuffer larger_received(static_cast<std::size_t>(bytes), "a batch");
    if (received.bytes() > 0) replaced.emplace_back(std::move(sent), std::move(received));
    sent = std::move(larger_sent), received = std::move(larger_received);
}

void Inbox::free_replaced() {
    if (!replaced.empty() && copied.done()) replaced.clear();
}

void CudaExecutable::check_batch(const exec::MicroBatch& micro_batch) const {
    if (!micro_batch.decoded.empty()) {
        expects(micro_batch.images.empty() && micro_batch.labels.empty(),
                "a micro-batch brings decoded samples, or images and labels");
        check_decoded(micro_batch.decoded);
        return;
    }
    batch_.check_images_and_labels(micro_batch);
}

void CudaExecutable::check_decoded(std::span<const exec::DecodedSample> samples) const {
    expects(plan_.images != graph::none && plan_.labels != graph::none,
            "decoded samples are for a plan with labels");
    const Shape& s = plan_.tensor(plan_.images).shape;
    expects(static_cast<std::int64_t>(samples.size()) == s.n, "the plan's number of samples");
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const exec::DecodedSample& sample = samples[i];
        expects(static_cast<std::int64_t>(sample.crop.size()) >= math::crop_header_words,
                "a sample has the header of its crop");
        math::CropHeader h;
        std::memcpy(&h, sample.crop.data(), sizeof h);
        const std::int64_t pixels = pixel_count(sample);
        expects(0 < h.columns && h.columns <= s.w && 0 < h.rows && h.rows <= s.h &&
                    static_cast<std::int64_t>(sample.crop.size()) == math::crop_tables(h).end,
                "a sample has its crop's sizes");
        const KeptSamples& kept = model_->kept;
        if (kept.keeps(sample.number)) {
            expects(sample.number < static_cast<std::int64_t>(kept.present.size()) &&
                        kept.bytes(sample.number) == sample_bytes(pixels),
                    "a sample that is kept has the size it was announced with");
            if (kept.has(sample.number)) continue;
        }
        expects(static_cast<std::int64_t>(sample.labels.size()) == pixels &&
                    static_cast<std::int64_t>(sample.pixels.size()) == 3 * pixels,
                "a sample that is not on the device comes with its pixels and labels");
        batch_.check_labels(sample.labels, static_cast<std::int64_t>(i), pixels);
    }
}

// A batch goes on a stream of its own. The last micro-batch that used the inbox is over; what was
// sent from it and never used may still be on its way.
void CudaExecutable::send_batch(Inbox& inbox, const exec::MicroBatch& micro_batch) {
    check_batch(micro_batch);
    inbox.copied.synchronize();
    inbox.sources.clear();
    cudaStream_t stream = model_->copies.get();
    if (!micro_batch.decoded.empty()) {
        send_decoded(inbox, micro_batch.decoded);
    } else {
        const auto labels_at = static_cast<std::int64_t>(micro_batch.images.size_bytes());
        const std::int64_t end = labels_at + batch_.label_elements();
        inbox.reserve(end);
        put(inbox.sent, 0, micro_batch.images);
        put(inbox.sent, labels_at, micro_batch.labels);
        copy(inbox.received.as<std::byte>(), inbox.sent, 0, end, stream);
    }
    inbox.copied.record(stream);
}

// Bytes only: a quarter of what the crops are as floats. The words of all crops, then the samples
// that the device does not have, each sent as soon as it is in pinned memory, so that the bus is
// busy while the next one is brought there. What is kept goes to its place and is not sent again.
void CudaExecutable::send_decoded(Inbox& inbox, std::span<const exec::DecodedSample> samples) {
    KeptSamples& kept = model_->kept;
    std::int64_t words = 0, bytes = 0;
    for (const exec::DecodedSample& sample : samples) {
        words += words_bytes(sample);
        if (!kept.has(sample.number)) bytes += sample_bytes(pixel_count(sample));
    }
    if (words + bytes > static_cast<std::int64_t>(inbox.received.bytes()))
        inbox.reserve(words + bytes + bytes / 4);  // samples differ in size
    cudaStream_t stream = model_->copies.get();
    auto* received = inbox.received.as<std::byte>();
    std::int64_t at = 0;
    for (const exec::DecodedSample& sample : samples) {
        put(inbox.sent, at, sample.crop);
        inbox.sources.push_back(
            {nullptr, nullptr, reinterpret_cast<const std::int32_t*>(received + at)});
        at += words_bytes(sample);
    }
    copy(received, inbox.sent, 0, at, stream);
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const exec::DecodedSample& sample = samples[i];
        const std::int64_t pixels = pixel_count(sample), end = at + sample_bytes(pixels);
        const bool keep = kept.keeps(sample.number);
        std::byte* place = keep ? kept.at(sample.number) : received + at;
        CropSource& source = inbox.sources[i];
        source.pixels = reinterpret_cast<const std::uint8_t*>(place);
        source.labels = source.pixels + apart(3 * pixels);
        if (kept.has(sample.number)) continue;
        put(inbox.sent, at, sample.pixels);
        put(inbox.sent, at + apart(3 * pixels), sample.labels);
        copy(place, inbox.sent, at, end, stream);
        if (keep) kept.present[static_cast<std::size_t>(sample.number)] = true;
        at = end;
    }
}

// What the launches read at fixed addresses, in one small copy.
void CudaExecutable::send_scalars(const exec::MicroBatch& micro_batch) {
    const StepScalars scalars{micro_batch.learning_rate, micro_batch.valid_pixels};
    put(sent_, 0, std::span(&scalars, 1));
    auto* keys = reinterpret_cast<math::SampleKey*>(sent_.as<std::byte>() + keys_at_);
    std::copy_n(micro_batch.samples.begin(), batch_.samples(), keys);
    put(sent_, sources_at_, std::span<const CropSource>(inboxes_[present_].sources));
    copy(received_.as<std::byte>(), sent_, 0, static_cast<std::int64_t>(received_.bytes()),
         model_->stream.get());
}

// The plan's input tensors from the batch, once it is there.
void CudaExecutable::receive() {
    const Inbox& inbox = inboxes_[present_];
    model_->stream.wait(inbox.copied.get());
    cudaStream_t stream = model_->stream.get();
    if (!inbox.sources.empty()) {
        augment(stream,
                reinterpret_cast<const CropSource*>(received_.as<std::byte>() + sources_at_),
                view(plan_.images), view(plan_.labels).as<std::uint8_t>(), scratch(stream).data);
        return;
    }
    const auto* images = inbox.received.as<float>();
    const auto* labels = reinterpret_cast<const std::uint8_t*>(images + batch_.image_elements());
    for (const exec::BatchInput& input : batch_.inputs()) {
        const View v = view(input.tensor);
        if (input.labels) {  // one channel: the same order
            cuda::check(cudaMemcpyAsync(v.data, labels + input.first,
                                        static_cast<std::size_t>(v.shape.elements()),
                                        cudaMemcpyDefault, stream),
                        "labels");
        } else {
            from_nchw(stream, images + input.first, v);
        }
    }
}

}  // namespace deeplab::cuda
