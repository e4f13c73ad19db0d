// SPDX-License-Identifier: Apache-2.0
//
// The steps of forward.cpp and backward.cpp (there are the formulas) as work on a stream, with all
// that is known per channel in device memory:
//
// clang-format off
// forward   forward_sums       one read of x
//           all_reduce         of 2C + 1 doubles and the exchange's own
//           finalize           statistics, running statistics, the next pivot
//           normalize          one read of x, one write of y
// backward  backward_sums      one read of x, dy
//           all_reduce         of as many
//           finalize_backward  coefficients, parameter gradients
//           input_gradient     one read of x, dy, one write of dx
// clang-format on

#include "syncbn/device_batch_norm.hpp"

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "syncbn/error.hpp"

#include "bn/options.hpp"
#include "bn/validate.hpp"
#include "comm/device_sum.hpp"
#include "cuda/device_buffer.hpp"
#include "kernels/cuda/cuda.hpp"

namespace syncbn {

namespace bn {
namespace {

/// Arrays of C doubles in device memory.
template <std::size_t kCount>
class Arrays {
 public:
  explicit Arrays(std::int64_t channels) : channels_(channels), memory_(kCount * bytes_of_one()) {}

  double* operator[](std::size_t k) const {
    return memory_.as<double>() + static_cast<std::int64_t>(k) * channels_;
  }
  void upload(std::size_t k, std::span<const double> values, CudaStream stream) {
    memory_.upload(std::as_bytes(values), stream, k * bytes_of_one());
  }
  std::vector<double> download(std::size_t k, CudaStream stream) const {
    std::vector<double> values(static_cast<std::size_t>(channels_));
    memory_.download(std::as_writable_bytes(std::span(values)), stream, k * bytes_of_one());
    cuda::StreamView(stream).synchronize();
    return values;
  }
  void clear(CudaStream stream) { memory_.clear(stream); }

 private:
  std::size_t bytes_of_one() const { return static_cast<std::size_t>(channels_) * sizeof(double); }

  std::int64_t channels_;
  cuda::DeviceBuffer memory_;
};

}  // namespace

struct DeviceStatistics {
  enum : std::size_t { mean, var, invstd, scale, shift, count };

  explicit DeviceStatistics(std::int64_t channels) : arrays(channels) {}

  Arrays<count> arrays;
};

struct DeviceState {
  enum : std::size_t { weight, bias, running_mean, running_var, count };
  enum : std::size_t { weight_grad, bias_grad, gradients };

  explicit DeviceState(std::int64_t channels)
      : arrays(channels),
        gradients_of(channels),
        batches(sizeof(std::int64_t)),
        pivot(static_cast<std::size_t>(channels) * sizeof(float)) {}

  Arrays<count> arrays;
  Arrays<gradients> gradients_of;
  cuda::DeviceBuffer batches;  ///< one std::int64_t
  cuda::DeviceBuffer pivot;    ///< [C] floats
};

struct DeviceWorkspace {
  enum : std::size_t { mean_dz, slope, scale, shift, count };

  explicit DeviceWorkspace(std::int64_t channels)
      : arrays(channels),
        sums((sums_length(channels) + comm::DeviceSum::own_words) * sizeof(double)),
        own_sums(sums_length(channels) * sizeof(double)) {}

  /// Memory for the kernels' partial sums of tensors like x.
  void reserve(const ConstTensorView& x) {
    const std::size_t bytes = kernels::cuda::workspace_bytes(x.shape(), x.dtype(), x.layout());
    if (bytes > partial.bytes()) {
      partial = cuda::DeviceBuffer(bytes);
    }
  }

  Arrays<count> arrays;
  cuda::DeviceBuffer sums;  ///< of the group, and the exchange's own words
  cuda::DeviceBuffer own_sums;
  cuda::DeviceBuffer partial;
  std::string options;  ///< of the layer, for the ranks to compare
};

}  // namespace bn

using bn::DeviceState;
using bn::DeviceStatistics;
using bn::DeviceWorkspace;

struct DeviceBatchNorm::Forward {
  ConstTensorView x;
  std::optional<ConstTensorView> residual;
  TensorView y;
  const float* weight;
};

struct DeviceBatchNorm::Backward {
  BackwardContext context;
  TensorView dx;
  std::optional<TensorView> dresidual;
};

namespace {

Weight as_span(const float* weight, const ConstTensorView& x) {
  return weight == nullptr ? Weight()
                           : Weight(weight, static_cast<std::size_t>(x.shape().per_channel()));
}

BatchNormOptions supported(BatchNormOptions options) {
  if (options.reproducibility == Reproducibility::exact) {
    throw NotConfigured("layer '" + options.name +
                        "': no exact sums on devices. Use Reproducibility::rank_consistent, or "
                        "BatchNorm on the host.");
  }
  return options;
}

}  // namespace

DeviceSaved::DeviceSaved() = default;
DeviceSaved::DeviceSaved(DeviceSaved&&) noexcept = default;
DeviceSaved& DeviceSaved::operator=(DeviceSaved&&) noexcept = default;
DeviceSaved::~DeviceSaved() = default;

const double* DeviceSaved::mean() const {
  return statistics_ ? statistics_->arrays[DeviceStatistics::mean] : nullptr;
}
const double* DeviceSaved::var() const {
  return statistics_ ? statistics_->arrays[DeviceStatistics::var] : nullptr;
}
const double* DeviceSaved::invstd() const {
  return statistics_ ? statistics_->arrays[DeviceStatistics::invstd] : nullptr;
}

DeviceBatchNorm::DeviceBatchNorm(std::int64_t channels, DeviceCommunicator group,
                                 BatchNormOptions options)
    : channels_(bn::validated(channels, options)),
      group_(std::move(group)),
      options_(bn::named(supported(std::move(options)), group_.sum())),
      state_(std::make_unique<DeviceState>(channels)),
      working_(std::make_unique<DeviceWorkspace>(channels)) {
  working_->options = bn::to_text(options_);
  const auto c = static_cast<std::size_t>(channels);
  const std::vector<double> zeros(c, 0.0), ones(c, 1.0);
  state_->arrays.upload(DeviceState::weight, ones, nullptr);
  state_->arrays.upload(DeviceState::bias, zeros, nullptr);
  state_->arrays.upload(DeviceState::running_mean, zeros, nullptr);
  state_->arrays.upload(DeviceState::running_var, ones, nullptr);
  state_->gradients_of.clear(nullptr);
  state_->batches.clear(nullptr);
  state_->pivot.clear(nullptr);
  cuda::StreamView(nullptr).synchronize();
}

DeviceBatchNorm::DeviceBatchNorm(DeviceBatchNorm&&) noexcept = default;
DeviceBatchNorm& DeviceBatchNorm::operator=(DeviceBatchNorm&&) noexcept = default;
DeviceBatchNorm::~DeviceBatchNorm() = default;

double* DeviceBatchNorm::weight() {
  return options_.affine ? state_->arrays[DeviceState::weight] : nullptr;
}
double* DeviceBatchNorm::bias() {
  return options_.affine ? state_->arrays[DeviceState::bias] : nullptr;
}
double* DeviceBatchNorm::weight_grad() {
  return options_.affine ? state_->gradients_of[DeviceState::weight_grad] : nullptr;
}
double* DeviceBatchNorm::bias_grad() {
  return options_.affine ? state_->gradients_of[DeviceState::bias_grad] : nullptr;
}
double* DeviceBatchNorm::running_mean() {
  return options_.track_running_stats ? state_->arrays[DeviceState::running_mean] : nullptr;
}
double* DeviceBatchNorm::running_var() {
  return options_.track_running_stats ? state_->arrays[DeviceState::running_var] : nullptr;
}
std::int64_t* DeviceBatchNorm::num_batches_tracked() {
  return options_.track_running_stats ? state_->batches.as<std::int64_t>() : nullptr;
}

void DeviceBatchNorm::zero_grad(CudaStream stream) {
  state_->gradients_of.clear(stream);
}

// --- forward ----------------------------------------------------------------------------------

void DeviceBatchNorm::forward(ConstTensorView x, TensorView y, DeviceSaved& saved,
                              CudaStream stream, const float* weight) {
  forward_with({x, std::nullopt, y, weight}, saved, stream);
}

void DeviceBatchNorm::forward(ConstTensorView x, ConstTensorView residual, TensorView y,
                              DeviceSaved& saved, CudaStream stream, const float* weight) {
  forward_with({x, residual, y, weight}, saved, stream);
}

void DeviceBatchNorm::infer(ConstTensorView x, TensorView y, CudaStream stream,
                            const float* weight) {
  infer_with({x, std::nullopt, y, weight}, stream);
}

void DeviceBatchNorm::infer(ConstTensorView x, ConstTensorView residual, TensorView y,
                            CudaStream stream, const float* weight) {
  infer_with({x, residual, y, weight}, stream);
}

void DeviceBatchNorm::validate(const Forward& pass) const {
  require_channels(pass.x, channels_, options_.name);
  require_like_x(pass.x, pass.y, "y");
  if (pass.residual) {
    require_like_x(pass.x, *pass.residual, "residual");
  }
}

void DeviceBatchNorm::forward_with(const Forward& pass, DeviceSaved& saved, CudaStream stream) {
  validate(pass);
  group_.sum().poll();
  working_->reserve(pass.x);
  if (!saved.statistics_ || saved.forward_.shape.c != channels_) {
    saved.statistics_ = std::make_unique<DeviceStatistics>(channels_);
  }
  if (!knows_mean_) {  // to find it
    sum_over_group(comm::Pass::forward, pass, stream);
    finalize(*saved.statistics_, Moves::pivot, stream);
  }
  sum_over_group(knows_mean_ ? comm::Pass::forward : comm::Pass::second_sums, pass, stream);
  finalize(*saved.statistics_, Moves::running_statistics, stream);
  const auto& statistics = saved.statistics_->arrays;
  normalize(pass, statistics[DeviceStatistics::mean], statistics[DeviceStatistics::scale],
            statistics[DeviceStatistics::shift], stream);
  knows_mean_ = true;
  saved.forward_ = {.statistics = {},
                    .shape = pass.x.shape(),
                    .dtype = pass.x.dtype(),
                    .layout = pass.x.layout(),
                    .had_residual = pass.residual.has_value(),
                    .had_weight = pass.weight != nullptr,
                    .layer = options_.name,
                    .forward = ++forwards_};
}

void DeviceBatchNorm::sum_over_group(comm::Pass kind, const Forward& pass, CudaStream stream) {
  double* sums = working_->sums.as<double>();
  kernels::cuda::forward_sums({.x = pass.x,
                               .weight = pass.weight,
                               .pivot = state_->pivot.as<float>(),
                               .sums = sums,
                               .workspace = working_->partial.data()},
                              stream);
  group_.sum().all_reduce({.pass = kind,
                           .layer = options_.name,
                           .channels = channels_,
                           .dtype = pass.x.dtype(),
                           .shared = static_cast<std::uint64_t>(forwards_),
                           .options = working_->options},
                          sums, sums_length(channels_), stream);
}

void DeviceBatchNorm::finalize(DeviceStatistics& statistics, Moves moves, CudaStream stream) {
  std::optional<kernels::cuda::Running> running;
  if (options_.track_running_stats && moves == Moves::running_statistics) {
    running = {.mean = running_mean(),
               .var = running_var(),
               .batches = num_batches_tracked(),
               .momentum = options_.momentum};
  }
  kernels::cuda::finalize({.channels = channels_,
                           .sums = working_->sums.as<double>(),
                           .pivot = state_->pivot.as<float>(),
                           .eps = options_.eps,
                           .gamma = weight(),
                           .beta = bias(),
                           .mean = statistics.arrays[DeviceStatistics::mean],
                           .var = statistics.arrays[DeviceStatistics::var],
                           .invstd = statistics.arrays[DeviceStatistics::invstd],
                           .scale = statistics.arrays[DeviceStatistics::scale],
                           .shift = statistics.arrays[DeviceStatistics::shift],
                           .running = running},
                          stream);
}

void DeviceBatchNorm::normalize(const Forward& pass, const double* mean, const double* scale,
                                const double* shift, CudaStream stream) {
  kernels::cuda::normalize({.x = pass.x,
                            .weight = pass.weight,
                            .mean = mean,
                            .scale = scale,
                            .shift = shift,
                            .residual = pass.residual ? pass.residual->data() : nullptr,
                            .negative_slope = options_.activation.negative_slope,
                            .y = pass.y.data()},
                           stream);
}

void DeviceBatchNorm::infer_with(const Forward& pass, CudaStream stream) {
  validate(pass);
  if (!options_.track_running_stats) {
    throw NotConfigured("layer '" + options_.name +
                        "' keeps no running statistics to infer with. Use forward, or "
                        "track_running_stats.");
  }
  double* scale = working_->arrays[DeviceWorkspace::scale];
  double* shift = working_->arrays[DeviceWorkspace::shift];
  kernels::cuda::affine({.channels = channels_,
                         .var = running_var(),
                         .eps = options_.eps,
                         .gamma = weight(),
                         .beta = bias(),
                         .scale = scale,
                         .shift = shift},
                        stream);
  normalize(pass, running_mean(), scale, shift, stream);
}

// --- backward ---------------------------------------------------------------------------------

void DeviceBatchNorm::backward(const DeviceSaved& saved, ConstTensorView x, ConstTensorView dy,
                               TensorView dx, CudaStream stream, const float* weight) {
  backward_with({.context = {.x = x,
                             .dy = dy,
                             .statistics = saved.forward_.statistics,
                             .weight = as_span(weight, x)},
                 .dx = dx,
                 .dresidual = std::nullopt},
                saved, stream);
}

void DeviceBatchNorm::backward(const DeviceSaved& saved, ConstTensorView x, ConstTensorView y,
                               ConstTensorView dy, TensorView dx, TensorView dresidual,
                               CudaStream stream, const float* weight) {
  backward_with({.context = {.x = x,
                             .dy = dy,
                             .statistics = saved.forward_.statistics,
                             .y = y,
                             .weight = as_span(weight, x)},
                 .dx = dx,
                 .dresidual = dresidual},
                saved, stream);
}

void DeviceBatchNorm::backward_with(const Backward& pass, const DeviceSaved& saved,
                                    CudaStream stream) {
  const BackwardContext& context = pass.context;
  require_backward_of(saved.forward_, context, pass.dx, pass.dresidual, channels_, options_.name);
  group_.sum().poll();
  working_->reserve(context.x);
  const auto& statistics = saved.statistics_->arrays;
  const kernels::Upstream upstream{.data = context.x,
                                   .source = kernels::Source::input,
                                   .weight = context.weight.data(),
                                   .dy = context.dy.data(),
                                   .y = context.y ? context.y->data() : nullptr,
                                   .mean = statistics[DeviceStatistics::mean],
                                   .scale = statistics[DeviceStatistics::scale],
                                   .shift = statistics[DeviceStatistics::shift],
                                   .negative_slope = options_.activation.negative_slope};
  double* sums = working_->sums.as<double>();
  const bool local = options_.parameter_gradients == GradientScope::local;
  kernels::cuda::backward_sums(
      {.upstream = upstream, .sums = sums, .workspace = working_->partial.data()}, stream);
  if (local) {
    working_->own_sums.copy(working_->sums, working_->own_sums.bytes(), stream);
  }
  group_.sum().all_reduce({.pass = comm::Pass::backward,
                           .layer = options_.name,
                           .channels = channels_,
                           .dtype = context.x.dtype(),
                           .shared = static_cast<std::uint64_t>(saved.forward_.forward),
                           .options = working_->options},
                          sums, sums_length(channels_), stream);
  double* mean_dz = working_->arrays[DeviceWorkspace::mean_dz];
  double* slope = working_->arrays[DeviceWorkspace::slope];
  kernels::cuda::finalize_backward({.channels = channels_,
                                    .sums = sums,
                                    .invstd = statistics[DeviceStatistics::invstd],
                                    .own_sums = local ? working_->own_sums.as<double>() : sums,
                                    .mean_dz = mean_dz,
                                    .slope = slope,
                                    .dgamma = weight_grad(),
                                    .dbeta = bias_grad()},
                                   stream);
  kernels::cuda::input_gradient({.upstream = upstream,
                                 .mean_dz = mean_dz,
                                 .slope = slope,
                                 .dx = pass.dx.data(),
                                 .dresidual = pass.dresidual ? pass.dresidual->data() : nullptr},
                                stream);
}

// --- state ------------------------------------------------------------------------------------

void DeviceBatchNorm::save_state(StateDict& state, CudaStream stream,
                                 std::string_view prefix) const {
  const std::string base(prefix);
  const auto save = [&](const char* name, std::size_t array) {
    state.tensors[base + name] = StateTensor::from(state_->arrays.download(array, stream));
  };
  if (options_.affine) {
    save("weight", DeviceState::weight);
    save("bias", DeviceState::bias);
  }
  if (options_.track_running_stats) {
    save("running_mean", DeviceState::running_mean);
    save("running_var", DeviceState::running_var);
    std::int64_t batches = 0;
    state_->batches.download(std::as_writable_bytes(std::span(&batches, 1)), stream);
    cuda::StreamView(stream).synchronize();
    state.tensors[base + "num_batches_tracked"] = StateTensor::from(batches);
  }
}

void DeviceBatchNorm::load_state(const StateDict& state, CudaStream stream,
                                 std::string_view prefix) {
  BatchNorm host(channels_, Communicator::self(), options_);
  host.load_state(state, prefix);  // finds out whether it is right
  take_state(host, stream);
}

void DeviceBatchNorm::save(const std::filesystem::path& file, CudaStream stream) const {
  StateDict state;
  save_state(state, stream);
  save_safetensors(state, file);
}

void DeviceBatchNorm::load(const std::filesystem::path& file, CudaStream stream) {
  BatchNorm host(channels_, Communicator::self(), options_);
  host.load(file);
  take_state(host, stream);
}

void DeviceBatchNorm::take_state(BatchNorm& host, CudaStream stream) {
  if (options_.affine) {
    state_->arrays.upload(DeviceState::weight, host.weight(), stream);
    state_->arrays.upload(DeviceState::bias, host.bias(), stream);
  }
  if (options_.track_running_stats) {
    state_->arrays.upload(DeviceState::running_mean, host.running_mean(), stream);
    state_->arrays.upload(DeviceState::running_var, host.running_var(), stream);
    const std::int64_t batches = host.num_batches_tracked();
    state_->batches.upload(std::as_bytes(std::span(&batches, 1)), stream);
  }
  state_->pivot.clear(stream);
  knows_mean_ = false;
  cuda::StreamView(stream).synchronize();
}

}  // namespace syncbn
