// SPDX-License-Identifier: Apache-2.0
#include "app/bench/layer_bench.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "app/bench/onednn_batch_norm.hpp"
#include "app/bench/tensors.hpp"

namespace syncbn::app::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double eps = 1e-5;
constexpr int most_rounds = 10000;  // unless more are asked for

struct PhaseInfo {
  std::string_view name;
  int passes;
};

PhaseInfo info(Phase phase) {
  switch (phase) {
    case Phase::copy:
      return {"copy", 2};
    case Phase::streaming_copy:
      return {"streaming_copy", 2};
    case Phase::sums:
      return {"sums", 1};
    case Phase::exchange:
      return {"exchange", 0};
    case Phase::normalize:
      return {"normalize", 2};
    case Phase::forward:
      return {"forward", 3};
    case Phase::backward_sums:
      return {"backward_sums", 2};
    case Phase::input_gradient:
      return {"input_gradient", 3};
    case Phase::backward:
      return {"backward", 5};
    case Phase::local_forward:
      return {"local_forward", 3};
    case Phase::local_backward:
      return {"local_backward", 5};
    case Phase::exact_forward:
      return {"exact_forward", 3};
    case Phase::exact_backward:
      return {"exact_backward", 5};
    case Phase::onednn_forward:
      return {"onednn_forward", 3};
    case Phase::onednn_backward:
      return {"onednn_backward", 5};
  }
  return {"?", 0};
}

/// A layer and its phases, ready to run.
class Bench {
 public:
  struct Task {
    Phase phase;
    std::function<void(Tensors&)> run;
  };

  Bench(const LayerShape& layer, const BenchOptions& options, const Communicator& world);
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  const std::vector<Task>& tasks() const { return tasks_; }
  const std::string& rival_text() const { return rival_text_; }

  void run(const Task& task) {
    task.run(pool_[next_]);
    next_ = (next_ + 1) % pool_.size();
  }

 private:
  void add_phases(const Communicator& world);
  void add_layer(Phase forward, Phase backward, BatchNorm& norm, Saved& saved);
  void add_onednn();

  std::vector<Tensors> pool_;
  std::size_t next_ = 0;
  std::vector<float> pivot_;
  std::vector<double> sums_;
  std::vector<double> message_;
  Statistics statistics_;
  BatchNorm norm_;
  BatchNorm local_norm_;
  BatchNorm exact_norm_;
  Saved saved_, local_saved_, exact_saved_;
  std::unique_ptr<OneDnnBatchNorm> onednn_;
  std::string rival_text_;
  std::vector<Task> tasks_;
};

Bench::Bench(const LayerShape& layer, const BenchOptions& options, const Communicator& world)
    : pool_(make_pool(layer.shape, options.dtype, options.layout, world.rank())),
      pivot_(static_cast<std::size_t>(layer.shape.c)),
      sums_(sums_length(layer.shape.c)),
      message_(sums_length(layer.shape.c)),
      norm_(layer.shape.c, world, {.name = layer.text, .eps = eps}),
      local_norm_(layer.shape.c, Communicator::self(), {.name = layer.text, .eps = eps}),
      exact_norm_(
          layer.shape.c, world,
          {.name = layer.text + " exact", .eps = eps, .reproducibility = Reproducibility::exact}) {
  add_phases(world);
  add_layer(Phase::forward, Phase::backward, norm_, saved_);
  for (const Rival rival : options.rivals) {
    if (rival == Rival::local) {
      add_layer(Phase::local_forward, Phase::local_backward, local_norm_, local_saved_);
    } else if (rival == Rival::exact) {
      add_layer(Phase::exact_forward, Phase::exact_backward, exact_norm_, exact_saved_);
    } else {
      add_onednn();
    }
  }
}

void Bench::add_phases(const Communicator& world) {
  forward_sums(pool_[0].x.view(), pivot_, sums_);
  finalize(sums_, pivot_, eps, statistics_);
  tasks_.push_back({Phase::copy, [](Tensors& t) { t.y.copy_from(t.x); }});
  tasks_.push_back({Phase::streaming_copy, [](Tensors& t) { t.y.stream_from(t.x); }});
  tasks_.push_back({Phase::sums, [this](Tensors& t) { forward_sums(t.x.view(), pivot_, sums_); }});
  tasks_.push_back({Phase::exchange, [this, world](Tensors&) { world.all_reduce(message_); }});
  tasks_.push_back({Phase::normalize, [this](Tensors& t) {
                      normalize(t.x.view(), statistics_, {}, Activation::none, std::nullopt,
                                t.y.view());
                    }});
  tasks_.push_back({Phase::backward_sums, [this](Tensors& t) {
                      backward_sums({.x = t.x.view(), .dy = t.dy.view(), .statistics = statistics_},
                                    sums_);
                    }});
  tasks_.push_back({Phase::input_gradient, [this](Tensors& t) {
                      input_gradient(
                          {.x = t.x.view(), .dy = t.dy.view(), .statistics = statistics_}, sums_,
                          t.dx.view(), std::nullopt);
                    }});
}

void Bench::add_layer(Phase forward, Phase backward, BatchNorm& norm, Saved& saved) {
  norm.forward(pool_[0].x.view(), pool_[0].y.view(), saved);  // any order then finds `saved` filled
  tasks_.push_back({forward, [&](Tensors& t) { norm.forward(t.x.view(), t.y.view(), saved); }});
  tasks_.push_back(
      {backward, [&](Tensors& t) { norm.backward(saved, t.x.view(), t.dy.view(), t.dx.view()); }});
}

void Bench::add_onednn() {
  const TensorView x = pool_[0].x.view();
  try {
    onednn_ = std::make_unique<OneDnnBatchNorm>(x.dtype(), x.shape(), x.layout(), eps);
  } catch (const NotConfigured& error) {
    rival_text_ = error.what();
    return;
  }
  rival_text_ = onednn_->implementation();
  onednn_->forward(x.data(), pool_[0].y.view().data());  // backward needs its statistics
  tasks_.push_back({Phase::onednn_forward, [this](Tensors& t) {
                      onednn_->forward(t.x.view().data(), t.y.view().data());
                    }});
  tasks_.push_back({Phase::onednn_backward, [this](Tensors& t) {
                      onednn_->backward(t.x.view().data(), t.dy.view().data(), t.dx.view().data());
                    }});
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Collective. Rank 0's answer. The ranks leave it together.
bool rank_0_says(const Communicator& world, bool answer) {
  std::vector<double> word = {world.rank() == 0 && answer ? 1.0 : 0.0};
  world.all_reduce(word);
  return word[0] > 0;
}

/// Collective. Element by element, the largest of the ranks' samples.
std::vector<double> slowest(const Communicator& world, const std::vector<double>& mine) {
  const std::vector<double> all = world.all_gather(mine);
  std::vector<double> largest(mine.size(), 0.0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    largest[i % mine.size()] = std::max(largest[i % mine.size()], all[i]);
  }
  return largest;
}

}  // namespace

std::string_view to_string(Phase phase) {
  return info(phase).name;
}

int passes(Phase phase) {
  return info(phase).passes;
}

double LayerTimes::bandwidth(Phase phase, DType dtype) const {
  const double bytes =
      static_cast<double>(layer.shape.size()) * static_cast<double>(size_of(dtype));
  return passes(phase) * bytes / phases.at(phase).median / 1e9;
}

double LayerTimes::copy_bandwidth(DType dtype) const {
  return std::max(bandwidth(Phase::copy, dtype), bandwidth(Phase::streaming_copy, dtype));
}

LayerTimes time_layer(const LayerShape& layer, const BenchOptions& options,
                      const Communicator& world) {
  Bench bench(layer, options, world);
  const std::vector<Bench::Task>& tasks = bench.tasks();
  std::vector<std::vector<double>> samples(tasks.size());
  for (const Bench::Task& task : tasks) {
    bench.run(task);
  }
  const Clock::time_point start = Clock::now();
  const auto wanted = [&](int round) {
    return round < options.repetitions ||
           (round < most_rounds && seconds_since(start) < options.min_seconds);
  };
  for (int round = 0; rank_0_says(world, wanted(round)); ++round) {
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const std::size_t t = (i + static_cast<std::size_t>(round)) % tasks.size();
      rank_0_says(world, true);
      const Clock::time_point begin = Clock::now();
      bench.run(tasks[t]);
      samples[t].push_back(seconds_since(begin));
    }
  }
  LayerTimes times{.layer = layer, .phases = {}, .rival_text = bench.rival_text()};
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    times.phases[tasks[t].phase] = summarize(slowest(world, samples[t]));
  }
  return times;
}

}  // namespace syncbn::app::bench
