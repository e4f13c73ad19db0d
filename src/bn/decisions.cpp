// SPDX-License-Identifier: Apache-2.0
//
// These functions are what a layer decides between its phases, over a caller's arrays.

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
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

constexpr std::size_t state_arrays = 6;

/// Returns the memory of a state. Without running statistics all but the pivot has no bytes.
std::array<Memory, state_arrays> memory_of(const BatchState& state) {
  const std::size_t counted = state.num_batches_tracked != nullptr ? sizeof(std::int64_t) : 0;
  return {memory_of("pivot", state.pivot),
          memory_of("running_mean", state.running_mean),
          memory_of("running_var", state.running_var),
          memory_of("start_mean", state.start_mean),
          memory_of("start_var", state.start_var),
          Memory{"num_batches_tracked", state.num_batches_tracked, counted, alignof(std::int64_t)}};
}

/// Requires that the state has all arrays of running statistics or none, that they are apart, and
/// that they are where it says. Returns them.
bn::BatchArrays validated(const BatchState& state) {
  const auto channels = static_cast<std::int64_t>(state.pivot.size());
  const std::array<Memory, state_arrays> all = memory_of(state);
  const auto given = std::count_if(all.begin() + 1, all.end(),
                                   [](const Memory& memory) { return memory.bytes > 0; });
  if (given != 0 && given != static_cast<std::ptrdiff_t>(state_arrays) - 1) {
    throw InvalidArgument(
        "a batch state has some of running_mean, running_var, start_mean, start_var and "
        "num_batches_tracked (a batch moves all). Give all of them, or the pivot alone.");
  }
  for (std::size_t k = 0; k < all.size(); ++k) {
    require_aligned(all[k]);
    require_all_held(state.device, {all[k]});
    for (std::size_t other = 0; other < k; ++other) {
      require_apart(all[k], {all[other]});
    }
  }
  if (given == 0) {
    return {.channels = channels, .running = {}, .batches = nullptr, .pivot = state.pivot.data()};
  }
  for (const auto& [name, array] : {std::pair("running_mean", state.running_mean),
                                    std::pair("running_var", state.running_var)}) {
    bn::require_array(name, array, channels, state.device);
  }
  for (const auto& [name, array] :
       {std::pair("start_mean", state.start_mean), std::pair("start_var", state.start_var)}) {
    bn::require_array(name, ArrayView(array, state.device), channels, state.device);
  }
  return {.channels = channels,
          .running = {to_floats(state.running_mean), to_floats(state.running_var),
                      state.start_mean.data(), state.start_var.data()},
          .batches = state.num_batches_tracked,
          .pivot = state.pivot.data()};
}

/// Requires that what is written is apart from the state and from each other, and where it is.
void require_written(std::span<const Memory> written, const BatchState& state) {
  for (std::size_t k = 0; k < written.size(); ++k) {
    require_aligned(written[k]);
    require_all_held(state.device, {written[k]});
    for (const Memory& other : memory_of(state)) {
      require_apart(written[k], {other});
    }
    for (const Memory& other : written.first(k)) {
      require_apart(written[k], {other});
    }
  }
}

void require_momentum(std::optional<double> momentum) {
  if (momentum && !(*momentum >= 0 && *momentum <= 1)) {
    throw InvalidArgument("momentum = " + std::to_string(*momentum) +
                          " (between 0 and 1, or none for the average of all batches)");
  }
}

}  // namespace

bool move_far_pivots(std::span<const double> sums, std::span<double> pivot, double eps, DType dtype,
                     int round) {
  const DefaultArithmetic arithmetic;
  const channels::ChannelRange all = require_sums_about(sums, pivot);
  require_eps(eps);
  require_apart(memory_of("pivot", pivot), {memory_of("sums", sums)});
  if (round < 0) {
    throw InvalidArgument("round = " + std::to_string(round) + " (from 0 on)");
  }
  return round < bn::most_repeats && bn::move_far_pivots(all, sums, pivot, eps, dtype);
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
                                             .dtype = dtype,
                                             .pivot = arrays.pivot,
                                             .var = nullptr},
                       options.stream);
    return;
  }
  bn::expect_batch(arrays, momentum, dtype);
}

void finalize_batch(std::span<const double> sums, const BatchState& state, double eps,
                    std::optional<double> momentum, DType dtype, const StatisticsSpans& out,
                    const PhaseOptions& options) {
  const DefaultArithmetic arithmetic;
  const bn::BatchArrays arrays = validated(state);
  const channels::ChannelRange all = require_sums_about(sums, state.pivot);
  require_eps(eps);
  require_momentum(momentum);
  for (const auto& [name, array] :
       {std::pair("mean", out.mean), std::pair("var", out.var), std::pair("invstd", out.invstd)}) {
    bn::require_array(name, ArrayView(array, state.device), all.size(), state.device);
  }
  if (out.count == nullptr) {
    throw InvalidArgument("count is null");
  }
  const std::array written = {memory_of("mean", out.mean), memory_of("var", out.var),
                              memory_of("invstd", out.invstd),
                              memory_of("count", std::span(out.count, 1))};
  require_written(written, state);
  for (const Memory& memory : written) {
    require_apart(memory, {memory_of("sums", sums)});
  }
  require_all_held(state.device, {memory_of("sums", sums)});
  if (!state.device.is_cpu()) {
    std::optional<kernels::cuda::Running> running;
    if (arrays.running.mean) {
      running = {.arrays = arrays.running, .batches = arrays.batches, .momentum = momentum};
    }
    on_device(state.device, options, [&](const bn::OnDevice& on) {
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
  if (digest == nullptr) {
    throw InvalidArgument("digest is null");
  }
  const std::array written = {memory_of("digest", std::span(digest, 1))};
  require_written(written, state);
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
