// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <deque>

#include "app/bench/place.hpp"
#include "app/bench/tensors.hpp"
#include "comm/device/device_message.hpp"
#include "comm/device/device_sum.hpp"
#include "comm/group/access.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/event.hpp"
#include "cuda/stream.hpp"

namespace syncbn::app::bench {
namespace {

constexpr std::size_t cache_multiple = 4;
constexpr std::size_t most_sets = 256;
/// A region four times the L2's size is cleared this many times: about a millisecond on an H100.
constexpr int busy_rounds = 12;

class DevicePlace final : public Place {
 public:
  DevicePlace(const LayerShape& layer, const BenchOptions& options, int rank,
              const DeviceWorld& devices)
      : devices_(devices),
        bytes_(static_cast<std::size_t>(layer.shape.size()) * size_of(options.dtype)),
        message_(sums_length(layer.shape.c)),
        busy_(cache_multiple * devices.device.cache_bytes) {
    message_.buffer().clear(stream());
    make_sets(layer.shape, options, rank);
    cuda::StreamView(stream()).synchronize();
  }

  const TensorSet& next() override {
    current_ = (current_ + 1) % sets_.size();
    return sets_[current_];
  }

  double time(const Body& body) override {
    for (int round = 0; round < busy_rounds; ++round) {
      busy_.clear(stream());
    }
    begin_.record(stream());
    for (int lap = 0; lap < laps; ++lap) {
      body(next());
    }
    end_.record(stream());
    devices_.all.synchronize(stream());  // this throws if a rank is missing
    end_.synchronize();
    return static_cast<double>(end_.milliseconds_since(begin_)) / 1e3 / laps;
  }

  BatchNorm layer_of_all(std::int64_t channels, const BatchNormOptions& options) const override {
    return {channels, devices_.all, options};
  }
  BatchNorm layer_of_one(std::int64_t channels, const BatchNormOptions& options) const override {
    return {channels, devices_.own, options};
  }
  std::span<double> doubles(std::size_t count) override {
    cuda::DeviceBuffer& buffer = arrays_.emplace_back(count * sizeof(double));
    buffer.clear(stream());
    return {buffer.as<double>(), count};
  }
  void exchange() override {
    const std::size_t length = message_.buffer().bytes() / sizeof(double) - comm::fingerprint_words;
    comm::Access::sum(devices_.all)
        .all_reduce({.count = static_cast<std::int64_t>(length / 2)}, message_.first(length),
                    stream());
  }
  CudaStream stream() const override { return stream_.get(); }

  std::vector<MemoryTask> memory_tasks() override {
    return {{Phase::copy, [this](const TensorSet&) {
               memory_[4 * current_ + 1].copy(memory_[4 * current_], bytes_, stream());
             }}};
  }

 private:
  void make_sets(const Shape& shape, const BenchOptions& options, int rank) {
    const std::size_t wanted = cache_multiple * devices_.device.cache_bytes / bytes_ + 1;
    for (std::size_t k = 0; k < std::clamp(wanted, std::size_t{1}, most_sets); ++k) {
      const auto tensor = [&] {
        const cuda::DeviceBuffer& buffer = memory_.emplace_back(bytes_);
        return TensorView(buffer.data(), options.dtype, shape, options.layout,
                          devices_.all.device());
      };
      sets_.push_back({tensor(), tensor(), tensor(), tensor()});
      for (const std::size_t drawn : {0, 2}) {  // x and dy
        cuda::DeviceBuffer& buffer = memory_[4 * k + drawn];
        if (k > 0) {
          buffer.copy(memory_[drawn], bytes_, stream());
          continue;
        }
        Tensor host(options.dtype, shape, options.layout);
        host.fill(2 * static_cast<std::uint64_t>(rank) + drawn / 2);
        buffer.upload({static_cast<const std::byte*>(host.view().data()), bytes_}, stream());
        cuda::StreamView(stream()).synchronize();
      }
    }
  }

  DeviceWorld devices_;
  cuda::Stream stream_ = cuda::make_stream();
  cuda::Event begin_{cuda::Event::Timing::yes};
  cuda::Event end_{cuda::Event::Timing::yes};
  std::size_t bytes_;                      ///< of a tensor
  std::deque<cuda::DeviceBuffer> memory_;  ///< x, y, dy and dx of one set after the other
  std::vector<TensorSet> sets_;            ///< views of them
  std::size_t current_ = 0;
  std::deque<cuda::DeviceBuffer> arrays_;
  comm::DeviceMessage message_;
  cuda::DeviceBuffer busy_;
};

}  // namespace

std::unique_ptr<Place> place_on_device(const LayerShape& layer, const BenchOptions& options,
                                       const Communicator& world, const DeviceWorld& devices) {
  return std::make_unique<DevicePlace>(layer, options, world.rank(), devices);
}

}  // namespace syncbn::app::bench
