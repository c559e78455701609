#include "deeplab/data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "augment.h"
#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "labelled_image.h"

namespace deeplab::data {
namespace {

// A micro-batch being filled. Workers write to disjoint parts of its buffers without the lock; the
// rest is under it.
struct Pending {
    Batch batch;
    std::int64_t unfinished = 0;  // samples
    // The first one: which error next() throws does not depend on timing.
    std::int64_t failed_sample = -1;
    std::exception_ptr error;
};

struct Job {
    Pending* target = nullptr;  // lives until its last sample is finished: next() takes only what
                                // is complete
    std::int64_t sample = 0;    // its place in the micro-batch
    math::SampleKey key;
    Record record;                           // empty if `decoded` is set
    std::shared_ptr<LabelledImage> decoded;  // from the cache
    bool on_device = false;                  // its pixels are
};

struct Worker {
    AugmentScratch scratch;
    std::shared_ptr<LabelledImage> decoded = std::make_shared<LabelledImage>();
};

}  // namespace

const char* name(Stage stage) {
    switch (stage) {
        case Stage::read: return "read";
        case Stage::decode_image: return "decode image";
        case Stage::decode_mask: return "decode mask";
        case Stage::check: return "check labels";
        case Stage::resize_image: return "resize image";
        case Stage::resize_mask: return "resize mask";
        case Stage::blur: return "blur";
        case Stage::normalise: return "normalise";
        case Stage::rest: return "rest";
    }
    return "";
}

double StageTimes::total_s() const { return std::accumulate(cpu_s.begin(), cpu_s.end(), 0.0); }

StageTimes& StageTimes::operator+=(const StageTimes& other) {
    for (std::size_t i = 0; i < stage_count; ++i) cpu_s[i] += other.cpu_s[i];
    samples += other.samples;
    return *this;
}

struct Loader::Impl {
    explicit Impl(const LoaderOptions& o) : options(o), manifest(load_manifest(o.dir, o.split)) {
        expects(o.size > 0 && 0 <= o.rank && o.rank < o.size, "the rank is one of the ranks");
        expects(o.accumulation > 0 && o.global_batch > 0, "a step has samples");
        expects(0 <= o.first_step && o.first_step <= o.last_step, "the steps are in order");
        if (o.global_batch % (o.accumulation * o.size) != 0) {
            throw UsageError(
                cat("global_batch ", o.global_batch, " is not divisible by ", o.size,
                    " ranks times ", o.accumulation,
                    " micro-batches — every rank takes an equal part of each — choose a "
                    "multiple of ",
                    o.accumulation * o.size));
        }
        if (manifest.records == 0) {
            throw DataError(cat("split \"", o.split, "\" in ", o.dir.string(),
                                " has no records — there is nothing to train on — pack it again"));
        }
        local = o.global_batch / (o.accumulation * o.size);
        max_pending = static_cast<std::size_t>(std::max(1, o.queue));
        max_jobs = static_cast<std::size_t>(2 * std::max(1, o.workers));
        batches_left = (o.last_step - o.first_step) * o.accumulation;
        expects(!o.cache_device || (o.decoded && !o.cache_host),
                "a device keeps decoded samples, and then the host does not");
        const auto records = static_cast<std::size_t>(manifest.records);
        if (o.cache_host || o.cache_device) cache.resize(records);
        if (o.cache_device) on_device.resize(records);
    }

    ~Impl() {
        {
            const std::lock_guard lock(mutex);
            stop = true;
        }
        room.notify_all();
        work.notify_all();
        for (std::thread& thread : threads) thread.join();
    }

    void start() {
        threads.reserve(static_cast<std::size_t>(std::max(1, options.workers)) + 1);
        for (int w = 0; w < std::max(1, options.workers); ++w)
            threads.emplace_back([this] { decode_loop(); });
        threads.emplace_back([this] { read_loop(); });
    }

    // The only thread that touches HDF5.
    void read_loop() {
        std::optional<ShardSet> shards;
        StageClock clock;
        for (std::int64_t step = options.first_step; step < options.last_step; ++step) {
            for (std::int64_t micro = 0; micro < options.accumulation; ++micro) {
                Pending* target = begin_batch(step, micro);
                if (target == nullptr) return;
                std::int64_t i = 0;
                try {
                    if (!shards) {
                        shards.emplace(options.dir, options.split);
                        ensures(shards->size() == manifest.records,
                                "the manifest did not change since it was read");
                    }
                    for (; i < local; ++i) {
                        Job job = read(*shards, target, i);
                        clock.mark(Stage::read);
                        if (!submit(std::move(job), clock)) return;
                    }
                } catch (...) {
                    finish(*target, i, local - i, std::current_exception());
                    return;
                }
            }
        }
    }

    // A new micro-batch, once there is room for it; nullptr: stop.
    Pending* begin_batch(std::int64_t step, std::int64_t micro) {
        std::unique_lock lock(mutex);
        room.wait(lock, [this] { return stop || pending.size() < max_pending; });
        if (stop) return nullptr;
        auto fresh = std::make_unique<Pending>();
        if (!spent.empty()) {
            fresh->batch = std::move(spent.back());
            spent.pop_back();
        }
        lock.unlock();
        const std::int64_t pixels = options.augmentation.crop.pixels();
        Batch& batch = fresh->batch;
        batch.step = step;
        batch.micro = micro;
        batch.valid_pixels = 0;
        const auto samples = static_cast<std::size_t>(local);
        if (options.decoded) {
            batch.decoded.resize(samples);
            batch.crops.resize(samples);
        } else {
            batch.images.resize(samples * static_cast<std::size_t>(3 * pixels));
            batch.labels.resize(samples * static_cast<std::size_t>(pixels));
        }
        batch.keys.resize(samples);
        batch.ids.resize(samples);
        fresh->unfinished = local;
        Pending* target = fresh.get();
        lock.lock();
        pending.push_back(std::move(fresh));
        return target;
    }

    Job read(ShardSet& shards, Pending* target, std::int64_t i) {
        const Batch& batch = target->batch;
        const std::int64_t position = batch.step * options.global_batch +
                                      batch.micro * (options.global_batch / options.accumulation) +
                                      options.rank * local + i;
        Job job;
        job.target = target;
        job.sample = i;
        job.key = key_at(static_cast<std::uint64_t>(position));
        {
            const std::lock_guard lock(mutex);
            if (!cache.empty()) job.decoded = cache[job.key.sample];
            job.on_device = options.cache_device && on_device[job.key.sample];
            if (!job.decoded && !spent_records.empty()) {
                job.record = std::move(spent_records.back());
                spent_records.pop_back();
            }
        }
        if (!job.decoded) shards.read(job.key.sample, true, job.record);
        return job;
    }

    math::SampleKey key_at(std::uint64_t position) {
        const auto samples = static_cast<std::uint64_t>(manifest.records);
        const std::uint64_t epoch = position / samples;
        if (order.empty() || order_epoch != epoch) {
            order = epoch_order(epoch, samples, options.seed);
            order_epoch = epoch;
        }
        return math::SampleKey{static_cast<std::uint32_t>(epoch), order[position % samples]};
    }

    bool submit(Job job, StageClock& clock) {
        std::unique_lock lock(mutex);
        times += clock.take();
        room.wait(lock, [this] { return stop || jobs.size() < max_jobs; });
        if (stop) return false;
        jobs.push_back(std::move(job));
        work.notify_one();
        return true;
    }

    void decode_loop() {
        Worker worker;
        while (true) {
            Job job;
            {
                std::unique_lock lock(mutex);
                work.wait(lock, [this] { return stop || !jobs.empty(); });
                if (stop) return;
                job = std::move(jobs.front());
                jobs.pop_front();
            }
            room.notify_one();
            try {
                make_sample(job, worker);
            } catch (...) {
                finish(*job.target, job.sample, 1, std::current_exception());
            }
        }
    }

    void make_sample(Job& job, Worker& worker) {
        StageClock& clock = worker.scratch.clock;
        clock.mark(Stage::rest);
        const auto place = static_cast<std::size_t>(job.sample);
        Batch& batch = job.target->batch;
        std::shared_ptr<LabelledImage> source = job.decoded;
        if (!source) {
            // Nobody else has what a recycled batch alone still holds.
            if (options.decoded && batch.decoded[place].use_count() == 1)
                worker.decoded = std::move(batch.decoded[place]);
            if (worker.decoded.use_count() != 1) worker.decoded = std::make_shared<LabelledImage>();
            source = worker.decoded;
            decode(manifest, job.key.sample, job.record, !job.on_device, clock, *source);
        }
        const std::int64_t valid = options.decoded ? deliver_decoded(job, source, clock)
                                                   : deliver_crop(job, *source, worker);
        batch.keys[place] = job.key;
        batch.ids[place] = source->id;
        {
            const std::lock_guard lock(mutex);
            if (!job.decoded) {
                spent_records.push_back(std::move(job.record));
                if (options.cache_host) keep(job.key.sample, source);
            }
            batch.valid_pixels += valid;
            times += clock.take();
            ++times.samples;
        }
        finish(*job.target, job.sample, 1, nullptr);
    }

    std::int64_t deliver_crop(const Job& job, const LabelledImage& source, Worker& worker) {
        const std::int64_t pixels = options.augmentation.crop.pixels();
        Batch& batch = job.target->batch;
        return augment_into(source.image, source.mask, options.augmentation, options.normalisation,
                            manifest.classes.ignore, options.seed, job.key,
                            batch.images.data() + job.sample * 3 * pixels,
                            batch.labels.data() + job.sample * pixels, worker.scratch);
    }

    std::int64_t deliver_decoded(const Job& job, const std::shared_ptr<LabelledImage>& source,
                                 StageClock& clock) {
        const auto place = static_cast<std::size_t>(job.sample);
        Batch& batch = job.target->batch;
        batch.decoded[place] = source;
        batch.crops[place] = crop_words(source->image, source->mask, options.augmentation,
                                        options.normalisation, manifest.classes.ignore,
                                        options.seed, job.key);
        clock.mark(Stage::resize_mask);
        return batch.crops[place].valid_pixels;
    }

    // Under the mutex. Keeps the pixels while there is room.
    void keep(std::uint32_t sample, const std::shared_ptr<LabelledImage>& decoded) {
        const auto bytes = static_cast<std::int64_t>(decoded->image.pixels.capacity() +
                                                     decoded->mask.labels.capacity());
        if (cache[sample] || cached_bytes + bytes > options.cache_bytes) return;
        cached_bytes += bytes;
        cache[sample] = decoded;
    }

    // The masks go into the cache without the images.
    void device_has(const Batch& batch) {
        expects(options.cache_device, "the loader was told that a device keeps samples");
        for (std::size_t i = 0; i < batch.keys.size(); ++i) {
            const std::uint32_t sample = batch.keys[i].sample;
            const LabelledImage& d = *batch.decoded[i];
            const auto size = static_cast<std::int64_t>(d.mask.labels.size());
            {
                const std::lock_guard lock(mutex);
                on_device[sample] = true;
                if (cache[sample] || cached_bytes + size > options.cache_bytes) continue;
            }
            const auto kept = std::make_shared<LabelledImage>(
                LabelledImage{d.id, {d.image.width, d.image.height, {}}, d.mask});
            const std::lock_guard lock(mutex);
            keep(sample, kept);
        }
    }

    void finish(Pending& target, std::int64_t sample, std::int64_t count,
                std::exception_ptr error) {
        const std::lock_guard lock(mutex);
        if (error && (target.failed_sample < 0 || sample < target.failed_sample)) {
            target.failed_sample = sample;
            target.error = std::move(error);
        }
        target.unfinished -= count;
        if (target.unfinished == 0) ready.notify_all();
    }

    Batch next() {
        expects(batches_left > 0, "next() is called once per micro-batch of the steps asked for");
        const auto begin = Clock::now();
        std::unique_ptr<Pending> front;
        {
            std::unique_lock lock(mutex);
            ready.wait(lock,
                       [this] { return !pending.empty() && pending.front()->unfinished == 0; });
            // A failed micro-batch stays: asked again, the loader fails again.
            if (pending.front()->error) std::rethrow_exception(pending.front()->error);
            front = std::move(pending.front());
            pending.pop_front();
            --batches_left;
        }
        room.notify_all();
        last_wait_s = seconds_since(begin);
        return std::move(front->batch);
    }

    bool is_ready() {
        const std::lock_guard lock(mutex);
        return !pending.empty() && pending.front()->unfinished == 0 && !pending.front()->error;
    }

    void recycle(Batch&& batch) {
        const std::lock_guard lock(mutex);
        if (spent.size() < max_pending) spent.push_back(std::move(batch));
    }

    const LoaderOptions options;
    const Manifest manifest;
    std::int64_t local = 0;  // samples of this rank in a micro-batch
    std::size_t max_pending = 1, max_jobs = 1;

    // The caller's.
    std::int64_t batches_left = 0;
    double last_wait_s = 0;
    // The reader's.
    std::vector<std::uint32_t> order;
    std::uint64_t order_epoch = 0;

    // Under the mutex.
    std::mutex mutex;
    std::condition_variable room;   // the reader waits: for a place among `pending` or `jobs`
    std::condition_variable work;   // the workers wait: for jobs
    std::condition_variable ready;  // next() waits: for the first of `pending`
    bool stop = false;
    std::deque<std::unique_ptr<Pending>> pending;
    std::vector<Batch> spent;
    std::vector<Record> spent_records;  // as many as were ever under way at once
    std::deque<Job> jobs;
    std::vector<std::shared_ptr<LabelledImage>> cache;  // by record
    std::vector<bool> on_device;                        // by record
    std::int64_t cached_bytes = 0;
    StageTimes times;

    std::vector<std::thread> threads;
};

Loader::Loader(const LoaderOptions& options) : impl_(std::make_unique<Impl>(options)) {
    impl_->start();
}
Loader::~Loader() = default;

Batch Loader::next() { return impl_->next(); }
bool Loader::ready() const { return impl_->is_ready(); }
void Loader::recycle(Batch&& batch) { impl_->recycle(std::move(batch)); }
void Loader::on_device(const Batch& batch) { impl_->device_has(batch); }
double Loader::last_wait_s() const { return impl_->last_wait_s; }
StageTimes Loader::times() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->times;
}
std::int64_t Loader::cached_bytes() const {
    const std::lock_guard lock(impl_->mutex);
    return impl_->cached_bytes;
}
const Manifest& Loader::manifest() const { return impl_->manifest; }

}  // namespace deeplab::data
