// SPDX-License-Identifier: Apache-2.0
#include "app/bench/layer_bench.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "app/bench/onednn_batch_norm.hpp"
#include "app/bench/repetitions.hpp"
#include "app/bench/tensors.hpp"

namespace syncbn::app::bench {
namespace {

/// A Bench holds a layer and its phases, ready to run.
class Bench {
 public:
  Bench(const LayerShape& layer, const BenchOptions& options, const Communicator& world);
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  const std::vector<Task>& tasks() const { return tasks_; }
  const std::string& rival_text() const { return rival_text_; }

 private:
  void add(Phase phase, std::function<void(Tensors&)> body);
  void add_phases(const Communicator& world);
  void add_layer(Phase forward, Phase backward, BatchNorm& norm, ForwardRecord& record);
  void add_onednn();

  std::vector<Tensors> pool_;
  std::size_t next_ = 0;
  std::vector<double> pivot_;
  std::vector<double> sums_;
  std::vector<double> message_;
  Statistics statistics_;
  BatchNorm norm_;
  BatchNorm local_norm_;
  BatchNorm exact_norm_;
  ForwardRecord record_, local_record_, exact_record_;
  std::unique_ptr<OneDnnBatchNorm> onednn_;
  std::string rival_text_;
  std::vector<Task> tasks_;
};

Bench::Bench(const LayerShape& layer, const BenchOptions& options, const Communicator& world)
    : pool_(make_pool(layer.shape, options.dtype, options.layout, world.rank())),
      pivot_(static_cast<std::size_t>(layer.shape.c)),
      sums_(sums_length(layer.shape.c)),
      message_(sums_length(layer.shape.c)),
      norm_(layer.shape.c, world, {.name = layer.text, .eps = bench_eps}),
      local_norm_(layer.shape.c, Communicator::self(), {.name = layer.text, .eps = bench_eps}),
      exact_norm_(layer.shape.c, world,
                  {.name = layer.text + " exact",
                   .eps = bench_eps,
                   .reproducibility = Reproducibility::exact}) {
  add_phases(world);
  add_layer(Phase::forward, Phase::backward, norm_, record_);
  for (const Rival rival : options.rivals) {
    if (rival == Rival::local) {
      add_layer(Phase::local_forward, Phase::local_backward, local_norm_, local_record_);
    } else if (rival == Rival::exact) {
      add_layer(Phase::exact_forward, Phase::exact_backward, exact_norm_, exact_record_);
    } else {
      add_onednn();
    }
  }
}

/// Adds a task that is timed by this process's clock and uses the next tensors each time.
void Bench::add(Phase phase, std::function<void(Tensors&)> body) {
  tasks_.push_back({phase, [this, body = std::move(body)] {
                      Tensors& tensors = pool_[next_];
                      next_ = (next_ + 1) % pool_.size();
                      const auto begin = std::chrono::steady_clock::now();
                      body(tensors);
                      const auto end = std::chrono::steady_clock::now();
                      return std::chrono::duration<double>(end - begin).count();
                    }});
}

void Bench::add_phases(const Communicator& world) {
  forward_sums(pool_[0].x.view(), pivot_, sums_);
  finalize(sums_, pivot_, bench_eps, statistics_);
  add(Phase::copy, [](Tensors& t) { t.y.copy_from(t.x); });
  add(Phase::streaming_copy, [](Tensors& t) { t.y.stream_from(t.x); });
  add(Phase::read, [](Tensors& t) { t.x.read(); });
  add(Phase::sums, [this](Tensors& t) { forward_sums(t.x.view(), pivot_, sums_); });
  add(Phase::exchange, [this, world](Tensors&) { world.all_reduce(message_); });
  add(Phase::normalize, [this](Tensors& t) {
    normalize(t.x.view(), statistics_, {}, Activation::none, std::nullopt, t.y.view());
  });
  add(Phase::backward_sums, [this](Tensors& t) {
    backward_sums({.x = t.x.view(), .dy = t.dy.view(), .statistics = statistics_}, sums_);
  });
  add(Phase::input_gradient, [this](Tensors& t) {
    input_gradient({.x = t.x.view(), .dy = t.dy.view(), .statistics = statistics_}, sums_,
                   t.dx.view(), std::nullopt);
  });
}

void Bench::add_layer(Phase forward, Phase backward, BatchNorm& norm, ForwardRecord& record) {
  norm.forward(pool_[0].x.view(), pool_[0].y.view(), record);  // a backward may be the first task
  add(forward, [&](Tensors& t) { norm.forward(t.x.view(), t.y.view(), record); });
  add(backward, [&](Tensors& t) { norm.backward(record, t.x.view(), t.dy.view(), t.dx.view()); });
}

void Bench::add_onednn() {
  const TensorView x = pool_[0].x.view();
  try {
    onednn_ = std::make_unique<OneDnnBatchNorm>(x.dtype(), x.shape(), x.layout(), bench_eps);
  } catch (const NotConfigured& error) {
    rival_text_ = error.what();
    return;
  }
  rival_text_ = onednn_->implementation();
  onednn_->forward(x.data(), pool_[0].y.view().data());  // backward needs its statistics
  add(Phase::onednn_forward,
      [this](Tensors& t) { onednn_->forward(t.x.view().data(), t.y.view().data()); });
  add(Phase::onednn_backward, [this](Tensors& t) {
    onednn_->backward(t.x.view().data(), t.dy.view().data(), t.dx.view().data());
  });
}

}  // namespace

LayerTimes time_layer(const LayerShape& layer, const BenchOptions& options,
                      const Communicator& world) {
  Bench bench(layer, options, world);
  return {.layer = layer,
          .phases = repeat(bench.tasks(), options, world),
          .rival_text = bench.rival_text()};
}

}  // namespace syncbn::app::bench
