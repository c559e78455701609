// A run's inputs: checked, sent in as few copies as can be, made into the plan's tensors.

#include <cstring>

#include "augment.h"
#include "deeplab/base/text.h"
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

std::int64_t words_bytes(const exec::RawSample& sample) {
    return apart(static_cast<std::int64_t>(sample.crop.size_bytes()));
}

std::int64_t pixel_count(const exec::RawSample& sample) {
    math::CropHeader h;
    std::memcpy(&h, sample.crop.data(), sizeof h);
    return std::int64_t{h.width} * h.height;
}

}  // namespace

void CudaExecutable::check(const exec::Step& step) const {
    expects(static_cast<std::int64_t>(step.samples.size()) >= samples_,
            "a plan with dropout gets its samples");
    if (!step.raw.empty()) {
        expects(step.images.empty() && step.labels.empty(),
                "a step brings decoded samples, or images and labels");
        check_raw(step.raw);
        return;
    }
    expects(static_cast<std::int64_t>(step.images.size()) == image_elements_ &&
                static_cast<std::int64_t>(step.labels.size()) == label_elements_,
            "images and labels have the plan's sizes");
    check_labels(step.labels, 0, label_pixels_);
}

void CudaExecutable::check_raw(std::span<const exec::RawSample> samples) const {
    expects(image_ != graph::none && label_ != graph::none,
            "decoded samples are for a plan with labels");
    const Shape& s = plan_.tensor(image_).shape;
    expects(static_cast<std::int64_t>(samples.size()) == s.n, "the plan's number of samples");
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const exec::RawSample& sample = samples[i];
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
        check_labels(sample.labels, static_cast<std::int64_t>(i), pixels);
    }
}

void CudaExecutable::check_labels(std::span<const std::uint8_t> labels, std::int64_t first_sample,
                                  std::int64_t pixels) const {
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

// Scalars, keys, images, labels lie in `sent_` as in `received_`: one copy.
void CudaExecutable::send_inputs(const exec::Step& step) {
    const StepScalars scalars{step.learning_rate, step.valid_pixels};
    put(sent_, 0, std::span(&scalars, 1));
    auto* keys = reinterpret_cast<math::SampleKey*>(sent_.as<std::byte>() + keys_at_);
    for (std::int64_t i = 0; i < samples_; ++i) {
        const exec::SampleId& id = step.samples[static_cast<std::size_t>(i)];
        keys[i] = {id.epoch, id.sample};
    }
    cudaStream_t stream = model_->stream.get();
    if (raw_) {
        send_raw(step.raw);
        copy(received_.as<std::byte>(), sent_, 0, images_at_, stream);
        return;
    }
    put(sent_, images_at_, step.images);
    put(sent_, labels_at_, step.labels);
    copy(received_.as<std::byte>(), sent_, 0, static_cast<std::int64_t>(received_.bytes()), stream);
}

// Room for the words of all crops, then for the samples that the device does not have.
void CudaExecutable::reserve_raw(std::span<const exec::RawSample> samples) {
    std::int64_t bytes = 0;
    for (const exec::RawSample& sample : samples) {
        bytes += words_bytes(sample);
        if (!model_->kept.has(sample.number)) bytes += sample_bytes(pixel_count(sample));
    }
    if (bytes <= static_cast<std::int64_t>(raw_received_.bytes())) return;
    raw_sent_ = {}, raw_received_ = {};  // the old ones first; the run before is over
    const auto room = static_cast<std::size_t>(bytes + bytes / 4);
    raw_sent_ = PinnedBuffer(room, "decoded samples to be sent");
    raw_received_ = DeviceBuffer(room, "decoded samples");
}

// One copy more, of bytes only: a quarter of what the crops are as floats. Each sample is sent as
// soon as it is in pinned memory, so that the bus is busy while the next one is brought there. What
// is kept goes to its place and is not sent again.
void CudaExecutable::send_raw(std::span<const exec::RawSample> samples) {
    reserve_raw(samples);
    cudaStream_t stream = model_->stream.get();
    KeptSamples& kept = model_->kept;
    auto* received = raw_received_.as<std::byte>();
    auto* const sources = reinterpret_cast<CropSource*>(sent_.as<std::byte>() + sources_at_);
    std::int64_t at = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
        put(raw_sent_, at, samples[i].crop);
        sources[i].crop = reinterpret_cast<const std::int32_t*>(received + at);
        at += words_bytes(samples[i]);
    }
    copy(received, raw_sent_, 0, at, stream);
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const exec::RawSample& sample = samples[i];
        const std::int64_t pixels = pixel_count(sample), end = at + sample_bytes(pixels);
        const bool keep = kept.keeps(sample.number);
        std::byte* place = keep ? kept.at(sample.number) : received + at;
        sources[i].pixels = reinterpret_cast<const std::uint8_t*>(place);
        sources[i].labels = sources[i].pixels + apart(3 * pixels);
        if (kept.has(sample.number)) continue;
        put(raw_sent_, at, sample.pixels);
        put(raw_sent_, at + apart(3 * pixels), sample.labels);
        copy(place, raw_sent_, at, end, stream);
        if (keep) kept.present[static_cast<std::size_t>(sample.number)] = true;
        at = end;
    }
}

// The plan's input tensors from what was received.
void CudaExecutable::receive() {
    cudaStream_t stream = model_->stream.get();
    const std::byte* received = received_.as<std::byte>();
    if (raw_) {
        augment(stream, reinterpret_cast<const CropSource*>(received + sources_at_), view(image_),
                view(label_).as<std::uint8_t>(), model_->scratch.data());
        return;
    }
    const std::byte *images = received + images_at_, *labels = received + labels_at_;
    for (std::size_t t = 0; t < views_.size(); ++t) {
        if (plan_.tensors[t].space != graph::Space::input) continue;
        const View& v = views_[t];
        const auto elements = static_cast<std::size_t>(v.shape.elements());
        if (v.type == DType::u8) {  // one channel: the same order
            cuda::check(cudaMemcpyAsync(v.data, labels, elements, cudaMemcpyDefault, stream),
                        "labels");
            labels += elements;
        } else {
            from_nchw(stream, reinterpret_cast<const float*>(images), v);
            images += elements * sizeof(float);
        }
    }
}

}  // namespace deeplab::cuda
