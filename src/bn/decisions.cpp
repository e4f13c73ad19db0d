// SPDX-License-Identifier: Apache-2.0
//
// What a layer decides between its phases, as functions over a caller's arrays.

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "syncbn/error.hpp"
#include "syncbn/phases.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/host/batch_state.hpp"
#include "bn/phase_call.hpp"
#include "bn/validate.hpp"
#include "channels/finalize.hpp"
#include "channels/for_each.hpp"
#include "channels/pivot.hpp"
#include "kernels/cuda/exact.hpp"

namespace syncbn {
namespace {

using bn::Memory;
using bn::memory_of;
using bn::on_device;
using bn::require_aligned;
using bn::require_all_held;
using bn::require_apart;
using bn::require_eps;
using bn::require_sums_about;
using bn::to_floats;

channels::SumsAboutPivot sums_of(std::size_t c, std::span<const double> sums) {
  return {sums[c], sums[sums.size() / 2 + c], sums.back()};
}

/// Requires that the state's arrays belong together. Returns them.
bn::BatchArrays validated(const BatchState& state) {
  const auto channels = static_cast<std::int64_t>(state.pivot.size());
  const bool tracked = !state.running_mean.empty();
  if (tracked) {
    for (const auto& [name, array] : {std::pair("running_mean", state.running_mean),
                                      std::pair("running_var", state.running_var)}) {
      bn::require_array(name, array, channels, state.device);
    }
    if (state.start_mean.size() != state.pivot.size() ||
        state.start_var.size() != state.pivot.size() || state.num_batches_tracked == nullptr) {
      throw InvalidArgument(
          "running statistics without start_mean, start_var and num_batches_tracked (what a batch "
          "moves). Give all of them, or the pivot alone.");
    }
  }
  const Memory batches{"num_batches_tracked", state.num_batches_tracked,
                       tracked ? sizeof(std::int64_t) : 0, alignof(std::int64_t)};
  for (const Memory& memory :
       {memory_of("pivot", state.pivot), memory_of("start_mean", state.start_mean),
        memory_of("start_var", state.start_var), batches}) {
    require_aligned(memory);
    require_all_held(state.device, {memory});
  }
  require_all_held(state.device, {memory_of("running_mean", state.running_mean),
                                  memory_of("running_var", state.running_var)});
  if (!tracked) {
    return {.channels = channels, .running = {}, .batches = nullptr, .pivot = state.pivot.data()};
  }
  return {.channels = channels,
          .running = {to_floats(state.running_mean), to_floats(state.running_var),
                      state.start_mean.data(), state.start_var.data()},
          .batches = state.num_batches_tracked,
          .pivot = state.pivot.data()};
}

void require_momentum(std::optional<double> momentum) {
  if (momentum && !(*momentum >= 0 && *momentum <= 1)) {
    throw InvalidArgument("momentum = " + std::to_string(*momentum) +
                          " (between 0 and 1, or none for the average of all batches)");
  }
}

}  // namespace

bool pivot_is_far(std::span<const double> sums, std::span<const double> pivot, double eps,
                  DType dtype) {
  const DefaultArithmetic arithmetic;
  require_sums_about(sums, pivot);
  require_eps(eps);
  const double limit = channels::nearness(sums.back(), dtype);
  for (std::size_t c = 0; c < pivot.size(); ++c) {
    if (channels::pivot_is_far(sums_of(c, sums), pivot[c], eps, limit, dtype)) {
      return true;
    }
  }
  return false;
}

void move_pivot_to_mean(std::span<const double> sums, std::span<double> pivot, DType dtype) {
  const DefaultArithmetic arithmetic;
  require_sums_about(sums, pivot);
  require_apart(memory_of("pivot", pivot), {memory_of("sums", sums)});
  for (std::size_t c = 0; c < pivot.size() && sums.back() > 0; ++c) {
    pivot[c] = channels::nearer_pivot(sums_of(c, sums), pivot[c], dtype);
  }
}

bool move_far_pivots(std::span<const double> sums, std::span<double> pivot, double eps,
                     DType dtype) {
  const DefaultArithmetic arithmetic;
  require_sums_about(sums, pivot);
  require_eps(eps);
  require_apart(memory_of("pivot", pivot), {memory_of("sums", sums)});
  const double limit = channels::nearness(sums.back(), dtype);
  bool any = false;
  for (std::size_t c = 0; c < pivot.size(); ++c) {
    const channels::SumsAboutPivot of_channel = sums_of(c, sums);
    if (channels::pivot_is_far(of_channel, pivot[c], eps, limit, dtype)) {
      pivot[c] = channels::nearer_pivot(of_channel, pivot[c], dtype);
      any = true;
    }
  }
  return any;
}

void finalize(std::span<const double> sums, std::span<const double> pivot, double eps,
              Statistics& out) {
  const DefaultArithmetic arithmetic;
  const channels::ChannelRange all = require_sums_about(sums, pivot);
  require_eps(eps);
  for (const std::vector<double>* written : {&out.mean, &out.var, &out.invstd}) {
    require_apart(memory_of("statistics", std::span(*written)),
                  {memory_of("sums", sums), memory_of("pivot", pivot)});
  }
  out.mean.resize(pivot.size());
  out.var.resize(pivot.size());
  out.invstd.resize(pivot.size());
  channels::take_channels(
      channels::FinalizeStatistics{all.size(), sums.data(), pivot.data(), eps, out.mean.data(),
                                   out.var.data(), out.invstd.data()},
      all);
  out.count = sums.back();
}

void expect_batch(const BatchState& state, std::optional<double> momentum, DType dtype,
                  const PhaseOptions& options) {
  const DefaultArithmetic arithmetic;
  const bn::BatchArrays arrays = validated(state);
  require_momentum(momentum);
  if (!arrays.running.mean) {
    throw InvalidArgument("no running statistics (nothing predicts a mean without them)");
  }
  if (!state.device.is_cpu()) {
    kernels::cuda::run(channels::ExpectBatch{.range = {0, arrays.channels},
                                             .running = arrays.running,
                                             .batches = arrays.batches,
                                             .momentum = momentum.value_or(1),
                                             .pivot = arrays.pivot,
                                             .var = nullptr},
                       options.stream);
    return;
  }
  bn::expect_batch(arrays, momentum);
  bn::round_pivots(arrays, dtype);
}

void finalize_batch(std::span<const double> sums, const BatchState& state, double eps,
                    std::optional<double> momentum, DType dtype, const StatisticsSpans& out,
                    const PhaseOptions& options) {
  const DefaultArithmetic arithmetic;
  const bn::BatchArrays arrays = validated(state);
  const channels::ChannelRange all = require_sums_about(sums, state.pivot);
  require_eps(eps);
  require_momentum(momentum);
  const std::array written = {memory_of("mean", out.mean), memory_of("var", out.var),
                              memory_of("invstd", out.invstd),
                              memory_of("count", std::span(out.count, 1))};
  for (const Memory& memory : written) {
    if (memory.data == nullptr ||
        memory.bytes / sizeof(double) != (memory.name == "count" ? 1 : state.pivot.size())) {
      throw InvalidArgument(std::string(memory.name) + " has not the pivot's length, " +
                            std::to_string(state.pivot.size()) + " (count: 1), or is null");
    }
    require_aligned(memory);
    require_apart(memory, {memory_of("sums", sums), memory_of("pivot", state.pivot)});
    require_all_held(state.device, {memory});
  }
  require_all_held(state.device, {memory_of("sums", sums)});
  if (!state.device.is_cpu()) {
    std::optional<kernels::cuda::Running> running;
    if (arrays.running.mean) {
      running = {.arrays = arrays.running, .batches = arrays.batches, .momentum = momentum};
    }
    on_device(options, [&](const bn::OnDevice& on) {
      bn::finalize_batch({.channels = arrays.channels,
                          .sums = sums.data(),
                          .dtype = dtype,
                          .pivot = arrays.pivot,
                          .eps = eps,
                          .gamma = {},
                          .beta = {},
                          .out = {},
                          .running = running},
                         out, on);
    });
    return;
  }
  channels::take_channels(
      channels::FinalizeStatistics{arrays.channels, sums.data(), arrays.pivot, eps, out.mean.data(),
                                   out.var.data(), out.invstd.data()},
      all);
  *out.count = sums.back();
  if (sums.back() > 0) {
    channels::StatisticsArrays statistics;
    statistics.mean = out.mean.data();
    statistics.var = out.var.data();
    statistics.count = out.count;
    bn::move_to_batch(arrays, statistics, eps, momentum, dtype,
                      channels::nearness(sums.back(), dtype));
  }
}

void state_digest(const BatchState& state, Affine affine, std::uint64_t* digest,
                  const PhaseOptions& options) {
  const bn::BatchArrays arrays = validated(state);
  for (const auto& [name, array] :
       {std::pair("gamma", affine.gamma), std::pair("beta", affine.beta)}) {
    if (!array.empty()) {
      bn::require_array(name, array, arrays.channels, state.device);
      require_all_held(state.device, {memory_of(name, array)});
    }
  }
  const Memory written{"digest", digest, sizeof(std::uint64_t), alignof(std::uint64_t)};
  if (digest == nullptr) {
    throw InvalidArgument("digest is null");
  }
  require_aligned(written);
  require_all_held(state.device, {written});
  const channels::ConstFloats gamma = to_floats(affine.gamma), beta = to_floats(affine.beta);
  if (!state.device.is_cpu()) {
    kernels::cuda::fingerprint({.channels = arrays.channels,
                                .pivot = arrays.pivot,
                                .running_mean = arrays.running.mean,
                                .running_var = arrays.running.var,
                                .gamma = gamma,
                                .beta = beta,
                                .print = digest},
                               options.stream);
    return;
  }
  const auto value = [](const channels::ConstFloats& array, std::int64_t c) {
    return array ? array[c] : 0;
  };
  std::uint64_t print = 0;
  for (std::int64_t c = 0; c < arrays.channels; ++c) {
    print += channels::history_of(c, arrays.pivot[c], value(arrays.running.mean, c),
                                  value(arrays.running.var, c)) +
             channels::parameters_of(c, value(gamma, c), value(beta, c));
  }
  *digest = print;
}

}  // namespace syncbn
