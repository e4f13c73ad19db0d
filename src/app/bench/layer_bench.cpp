// SPDX-License-Identifier: Apache-2.0
#include "app/bench/layer_bench.hpp"

#include <optional>
#include <utility>

#include "syncbn/error.hpp"

namespace syncbn::app::bench {
LayerBench::LayerBench(const LayerShape& layer, const BenchOptions& options, Place& place)
    : place_(place),
      pivot_(place.doubles(static_cast<std::size_t>(layer.shape.c))),
      sums_(place.doubles(sums_length(layer.shape.c))),
      mean_(place.doubles(pivot_.size())),
      var_(place.doubles(pivot_.size())),
      invstd_(place.doubles(pivot_.size())),
      count_(place.doubles(1)),
      phase_options_{.stream = place.stream(), .scratch = &scratch_},
      norm_(place.layer_of_all(layer.shape.c, {.name = layer.text, .eps = bench_eps})),
      local_norm_(place.layer_of_one(layer.shape.c, {.name = layer.text, .eps = bench_eps})),
      exact_norm_(place.layer_of_all(layer.shape.c, {.name = layer.text + " exact",
                                                     .eps = bench_eps,
                                                     .reproducibility = Reproducibility::exact})) {
  for (MemoryTask& task : place.memory_tasks()) {
    add(task.phase, std::move(task.body));
  }
  add_phases();
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

void LayerBench::add(Phase phase, Body body) {
  tasks_.push_back({phase, [this, body = std::move(body)] { return place_.time(body); }});
}

void LayerBench::add_phases() {
  const TensorSet& first = place_.next();
  const StatisticsView statistics(mean_, invstd_);
  forward_sums(first.x, pivot_, sums_, {}, phase_options_);
  finalize_batch(sums_, {.pivot = pivot_, .device = first.x.device()}, bench_eps, std::nullopt,
                 first.x.dtype(), {mean_, var_, invstd_, count_.data()}, phase_options_);
  add(Phase::sums,
      [this](const TensorSet& t) { forward_sums(t.x, pivot_, sums_, {}, phase_options_); });
  add(Phase::exchange, [this](const TensorSet&) { place_.exchange(); });
  add(Phase::normalize, [this, statistics](const TensorSet& t) {
    normalize(t.x, statistics, {}, Activation::none, std::nullopt, t.y, {}, phase_options_);
  });
  add(Phase::backward_sums, [this, statistics](const TensorSet& t) {
    backward_sums({.x = t.x, .dy = t.dy, .statistics = statistics}, sums_, phase_options_);
  });
  add(Phase::input_gradient, [this, statistics](const TensorSet& t) {
    input_gradient({.x = t.x, .dy = t.dy, .statistics = statistics}, sums_, t.dx, std::nullopt,
                   phase_options_);
  });
}

void LayerBench::add_layer(Phase forward, Phase backward, BatchNorm& norm, ForwardRecord& record) {
  const CudaStream stream = place_.stream();
  const TensorSet& first = place_.next();  // a backward may be the first task, and needs a record
  norm.forward(first.x, first.y, record, {.stream = stream});
  add(forward, [&norm, &record, stream](const TensorSet& t) {
    norm.forward(t.x, t.y, record, {.stream = stream});
  });
  add(backward, [&norm, &record, stream](const TensorSet& t) {
    norm.backward(record, t.x, t.dy, t.dx, {.stream = stream});
  });
}

void LayerBench::add_onednn() {
  const TensorSet& first = place_.next();
  try {
    onednn_ = std::make_unique<OneDnnBatchNorm>(first.x.dtype(), first.x.shape(), first.x.layout(),
                                                bench_eps);
  } catch (const NotConfigured& error) {
    rival_text_ = error.what();
    return;
  }
  rival_text_ = onednn_->implementation();
  onednn_->forward(first.x.data(), first.y.data());  // backward needs its statistics
  add(Phase::onednn_forward,
      [this](const TensorSet& t) { onednn_->forward(t.x.data(), t.y.data()); });
  add(Phase::onednn_backward,
      [this](const TensorSet& t) { onednn_->backward(t.x.data(), t.dy.data(), t.dx.data()); });
}

LayerTimes time_layer(const LayerShape& layer, const BenchOptions& options,
                      const Communicator& world, Place& place) {
  LayerBench bench(layer, options, place);
  return {.layer = layer,
          .phases = repeat(bench.tasks(), options, world),
          .rival_text = bench.rival_text()};
}

}  // namespace syncbn::app::bench
