// SPDX-License-Identifier: Apache-2.0
#include "app/bench/device_layer_bench.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "syncbn/batch_norm.hpp"
#include "syncbn/phases.hpp"

#include "app/bench/device_tensors.hpp"
#include "app/bench/repetitions.hpp"
#include "comm/device/device_message.hpp"
#include "comm/device/device_sum.hpp"
#include "cuda/event.hpp"
#include "kernels/cuda/cuda.hpp"

namespace syncbn::app::bench {
namespace {

/// A region four times the L2's size is cleared this many times: about a millisecond on an H100.
constexpr int busy_rounds = 12;

/// A DeviceBench holds a layer and its phases, ready to be put on a stream.
class DeviceBench {
 public:
  DeviceBench(const LayerShape& layer, const BenchOptions& options, int rank,
              const DeviceWorld& devices);
  DeviceBench(const DeviceBench&) = delete;
  DeviceBench& operator=(const DeviceBench&) = delete;

  const std::vector<Task>& tasks() const { return tasks_; }

 private:
  enum : std::size_t { mean, var, invstd, scale, shift, mean_dz, slope, count, arrays };

  void add(Phase phase, std::function<void(DeviceTensors&)> put);
  void add_phases();
  void add_layer(Phase forward, Phase backward, BatchNorm& norm, ForwardRecord& record);

  void put_forward_sums(const DeviceTensors& tensors);
  void put_backward_sums(const DeviceTensors& tensors);
  void put_statistics(const DeviceTensors& tensors);

  double* array(std::size_t which) const {
    return arrays_.as<double>() + static_cast<std::int64_t>(which) * channels_;
  }
  kernels::Upstream upstream(const DeviceTensors& tensors) const;

  std::int64_t channels_;
  DeviceCommunicator ranks_;
  cuda::Stream stream_ = cuda::make_stream();
  cuda::Event begin_{cuda::Event::Timing::yes};
  cuda::Event end_{cuda::Event::Timing::yes};
  DevicePool pool_;
  cuda::DeviceBuffer arrays_;  ///< [arrays, C]
  cuda::DeviceBuffer pivot_;   ///< [C] doubles
  cuda::DeviceBuffer sums_;
  comm::DeviceMessage message_;
  cuda::DeviceBuffer workspace_;
  cuda::DeviceBuffer busy_;
  BatchNorm norm_;
  BatchNorm local_norm_;
  BatchNorm exact_norm_;
  ForwardRecord record_, local_record_, exact_record_;
  std::vector<Task> tasks_;
};

DeviceBench::DeviceBench(const LayerShape& layer, const BenchOptions& options, int rank,
                         const DeviceWorld& devices)
    : channels_(layer.shape.c),
      ranks_(devices.all),
      pool_(layer.shape, options.dtype, options.layout, rank, devices.device.cache_bytes,
            ranks_.device()),
      arrays_(arrays * static_cast<std::size_t>(channels_) * sizeof(double)),
      pivot_(static_cast<std::size_t>(channels_) * sizeof(double)),
      sums_(sums_length(channels_) * sizeof(double)),
      message_(sums_length(channels_)),
      workspace_(kernels::cuda::workspace_bytes(layer.shape, options.dtype, options.layout)),
      busy_(4 * devices.device.cache_bytes),
      norm_(channels_, devices.all, {.name = layer.text, .eps = bench_eps}),
      local_norm_(channels_, devices.own, {.name = layer.text, .eps = bench_eps}),
      exact_norm_(channels_, devices.all,
                  {.name = layer.text + " exact",
                   .eps = bench_eps,
                   .reproducibility = Reproducibility::exact}) {
  pivot_.clear(stream_.get());
  message_.buffer().clear(stream_.get());
  add_phases();
  add_layer(Phase::forward, Phase::backward, norm_, record_);
  for (const Rival rival : options.rivals) {
    if (rival == Rival::local) {
      add_layer(Phase::local_forward, Phase::local_backward, local_norm_, local_record_);
    } else if (rival == Rival::exact) {
      add_layer(Phase::exact_forward, Phase::exact_backward, exact_norm_, exact_record_);
    }
  }
}

/// Adds a task that puts a phase on the stream `laps` times and is timed by the device.
void DeviceBench::add(Phase phase, std::function<void(DeviceTensors&)> put) {
  tasks_.push_back({phase, [this, put = std::move(put)] {
                      for (int round = 0; round < busy_rounds; ++round) {
                        busy_.clear(stream_.get());
                      }
                      begin_.record(stream_.get());
                      for (int lap = 0; lap < laps; ++lap) {
                        put(pool_.next());
                      }
                      end_.record(stream_.get());
                      ranks_.synchronize(stream_.get());  // this throws if a rank is missing
                      end_.synchronize();
                      return static_cast<double>(end_.milliseconds_since(begin_)) / 1e3 / laps;
                    }});
}

kernels::Upstream DeviceBench::upstream(const DeviceTensors& tensors) const {
  return {.data = pool_.view(tensors.x),
          .source = kernels::Source::input,
          .weight = nullptr,
          .dy = tensors.dy.data(),
          .y = nullptr,
          .mean = array(mean),
          .scale = array(scale),
          .shift = array(shift),
          .negative_slope = 1};
}

void DeviceBench::put_forward_sums(const DeviceTensors& tensors) {
  kernels::cuda::forward_sums({.x = pool_.view(tensors.x),
                               .weight = nullptr,
                               .pivot = pivot_.as<double>(),
                               .sums = sums_.as<double>(),
                               .workspace = workspace_.data()},
                              stream_.get());
}

void DeviceBench::put_backward_sums(const DeviceTensors& tensors) {
  kernels::cuda::backward_sums(
      {.upstream = upstream(tensors), .sums = sums_.as<double>(), .workspace = workspace_.data()},
      stream_.get());
}

/// Computes what the elementwise kernels need, from this rank's own samples.
void DeviceBench::put_statistics(const DeviceTensors& tensors) {
  put_forward_sums(tensors);
  kernels::cuda::finalize(
      {.channels = channels_,
       .sums = sums_.as<double>(),
       .dtype = pool_.view(tensors.x).dtype(),
       .pivot = pivot_.as<double>(),
       .eps = bench_eps,
       .gamma = nullptr,
       .beta = nullptr,
       .out = {array(mean), array(var), array(invstd), array(scale), array(shift), array(count)},
       .running = std::nullopt},
      stream_.get());
  put_backward_sums(tensors);
  kernels::cuda::finalize_backward({.channels = channels_,
                                    .sums = sums_.as<double>(),
                                    .invstd = array(invstd),
                                    .own_sums = sums_.as<double>(),
                                    .frozen = false,
                                    .mean_dz = array(mean_dz),
                                    .grad_slope = array(slope),
                                    .dgamma = nullptr,
                                    .dbeta = nullptr},
                                   stream_.get());
}

void DeviceBench::add_phases() {
  put_statistics(pool_.next());
  add(Phase::copy, [this](DeviceTensors& t) { t.y.copy(t.x, t.x.bytes(), stream_.get()); });
  add(Phase::sums, [this](DeviceTensors& t) { put_forward_sums(t); });
  add(Phase::exchange, [this](DeviceTensors&) {
    ranks_.sum().all_reduce({.channels = channels_}, message_.first(sums_length(channels_)),
                            stream_.get());
  });
  add(Phase::normalize, [this](DeviceTensors& t) {
    kernels::cuda::normalize({.x = pool_.view(t.x),
                              .weight = nullptr,
                              .mean = array(mean),
                              .scale = array(scale),
                              .shift = array(shift),
                              .residual = nullptr,
                              .negative_slope = 1,
                              .y = t.y.data()},
                             stream_.get());
  });
  add(Phase::backward_sums, [this](DeviceTensors& t) { put_backward_sums(t); });
  add(Phase::input_gradient, [this](DeviceTensors& t) {
    kernels::cuda::input_gradient({.upstream = upstream(t),
                                   .mean_dz = array(mean_dz),
                                   .grad_slope = array(slope),
                                   .dx = t.dx.data(),
                                   .dresidual = nullptr},
                                  stream_.get());
  });
}

void DeviceBench::add_layer(Phase forward, Phase backward, BatchNorm& norm, ForwardRecord& record) {
  const DeviceTensors& first =
      pool_.next();  // a backward may be the first task, and needs a record
  norm.forward(pool_.view(first.x), pool_.view(first.y), record, {.stream = stream_.get()});
  add(forward, [&](DeviceTensors& t) {
    norm.forward(pool_.view(t.x), pool_.view(t.y), record, {.stream = stream_.get()});
  });
  add(backward, [&](DeviceTensors& t) {
    norm.backward(record, pool_.view(t.x), pool_.view(t.dy), pool_.view(t.dx),
                  {.stream = stream_.get()});
  });
}

}  // namespace

LayerTimes time_layer_on_device(const LayerShape& layer, const BenchOptions& options,
                                const Communicator& world, const DeviceWorld& devices) {
  DeviceBench bench(layer, options, world.rank(), devices);
  return {
      .layer = layer, .phases = repeat(bench.tasks(), options, world), .rival_text = std::string()};
}

}  // namespace syncbn::app::bench
