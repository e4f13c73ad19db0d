// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <deque>

#include "app/bench/place.hpp"
#include "app/bench/tensors.hpp"

namespace syncbn::app::bench {
namespace {

class HostPlace final : public Place {
 public:
  HostPlace(const LayerShape& layer, const BenchOptions& options, const Communicator& world)
      : world_(world),
        pool_(make_pool(layer.shape, options.dtype, options.layout, world.rank(),
                        options.cache_sharers)),
        message_(sums_length(layer.shape.c)) {
    for (Tensors& tensors : pool_) {
      sets_.push_back({tensors.x.view(), tensors.y.view(), tensors.dy.view(), tensors.dx.view()});
    }
  }

  const TensorSet& next() override {
    current_ = (current_ + 1) % sets_.size();
    return sets_[current_];
  }

  double time(const Body& body) override {
    const TensorSet& set = next();
    const auto begin = std::chrono::steady_clock::now();
    body(set);
    const auto end = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(end - begin).count();
  }

  BatchNorm layer_of_all(std::int64_t channels, const BatchNormOptions& options) const override {
    return {channels, world_, options};
  }
  BatchNorm layer_of_one(std::int64_t channels, const BatchNormOptions& options) const override {
    return {channels, Communicator::self(), options};
  }
  std::span<double> doubles(std::size_t count) override { return arrays_.emplace_back(count); }
  void exchange() override { world_.all_reduce(message_); }
  CudaStream stream() const override { return nullptr; }

  std::vector<MemoryTask> memory_tasks() override {
    return {{Phase::copy, [this](const TensorSet&) { set().y.copy_from(set().x); }},
            {Phase::streaming_copy, [this](const TensorSet&) { set().y.stream_from(set().x); }},
            {Phase::read, [this](const TensorSet&) { set().x.read(); }}};
  }

 private:
  Tensors& set() { return pool_[current_]; }

  Communicator world_;
  std::vector<Tensors> pool_;
  std::vector<TensorSet> sets_;  ///< views of them
  std::size_t current_ = 0;
  std::deque<std::vector<double>> arrays_;
  std::vector<double> message_;
};

}  // namespace

std::unique_ptr<Place> place_on_host(const LayerShape& layer, const BenchOptions& options,
                                     const Communicator& world) {
  return std::make_unique<HostPlace>(layer, options, world);
}

}  // namespace syncbn::app::bench
