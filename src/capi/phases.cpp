// SPDX-License-Identifier: Apache-2.0
#include "syncbn/phases.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "syncbn/error.hpp"

#include "capi/guarded.hpp"
#include "capi/handles.hpp"
#include "capi/structs.hpp"

using namespace syncbn;
using capi::guarded;
using capi::to_backend;
using capi::to_optional_view;
using capi::to_span;
using capi::to_view;
using capi::to_weight;

namespace {

/// Returns `channels`, of which there can be so many.
std::size_t to_length(std::int64_t channels) {
  if (channels < 1 || channels > Shape::most_channels) {
    throw InvalidArgument(std::to_string(channels) + " channels (at least 1 and at most 2^40)");
  }
  return static_cast<std::size_t>(channels);
}

std::size_t channels_of(const TensorView& x) {
  return static_cast<std::size_t>(x.shape().c);
}

/// Takes data that are NULL for none.
ConstArrayView to_array(const syncbn_array& array, std::int64_t channels, Device device) {
  return array.data == nullptr
             ? ConstArrayView()
             : ConstArrayView(array.data, capi::to_dtype(array.dtype), channels, device);
}
ArrayView to_written_array(const syncbn_array& array, std::int64_t channels, Device device) {
  return array.data == nullptr
             ? ArrayView()
             : ArrayView(array.data, capi::to_dtype(array.dtype), channels, device);
}

PhaseOptions to_options(const syncbn_phase_options* given) {
  if (given == nullptr) {
    return {};
  }
  const syncbn_phase_options options =
      capi::read_struct(given, "options", syncbn_phase_options SYNCBN_PHASE_OPTIONS_INIT);
  return {.stream = options.stream,
          .scratch = options.scratch == nullptr ? nullptr : &options.scratch->scratch,
          .backend = to_backend(options.backend)};
}

syncbn_pass read_pass(const syncbn_pass* pass) {
  return capi::read_struct(pass, "pass", syncbn_pass SYNCBN_PASS_INIT);
}

Affine to_affine(const syncbn_pass& pass, const TensorView& x) {
  if ((pass.gamma.data == nullptr) != (pass.beta.data == nullptr)) {
    throw InvalidArgument("gamma and beta go together (both, or neither)");
  }
  return {to_array(pass.gamma, x.shape().c, x.device()),
          to_array(pass.beta, x.shape().c, x.device())};
}

StatisticsView to_statistics(const syncbn_pass& pass, const TensorView& x) {
  return {to_span(pass.mean, channels_of(x), "mean"),
          to_span(pass.invstd, channels_of(x), "invstd")};
}

BackwardContext to_context(const syncbn_pass& pass, const TensorView& x) {
  return {.x = x,
          .dy = to_view(pass.dy, "dy"),
          .statistics = to_statistics(pass, x),
          .affine = to_affine(pass, x),
          .activation = {pass.negative_slope},
          .y = to_optional_view(pass.y, "y"),
          .position_weights = to_weight(pass.position_weights, x),
          .from_output = capi::to_flag(pass.from_output, "from_output")};
}

BatchState to_state(const syncbn_batch_state* given) {
  const syncbn_batch_state state =
      capi::read_struct(given, "state", syncbn_batch_state SYNCBN_BATCH_STATE_INIT);
  const std::size_t length = to_length(state.channels);
  const Device device = capi::to_device(state.device);
  const bool tracked = state.running_mean.data != nullptr;
  return {.pivot = to_span(state.pivot, length, "pivot"),
          .running_mean = to_written_array(state.running_mean, state.channels, device),
          .running_var = to_written_array(state.running_var, state.channels, device),
          .start_mean = to_span(state.start_mean, tracked ? length : 0, "start_mean"),
          .start_var = to_span(state.start_var, tracked ? length : 0, "start_var"),
          .num_batches_tracked = state.num_batches_tracked,
          .device = device};
}

template <class T>
std::span<T> to_sums(T* sums, const TensorView& x) {
  return to_span(sums, sums_length(x.shape().c), "sums");
}

}  // namespace

size_t syncbn_sums_length(int64_t channels) {
  return channels < 1 || channels > Shape::most_channels ? 0 : sums_length(channels);
}

syncbn_status syncbn_scratch_new(void* (*allocate)(size_t bytes, void* user),
                                 void (*release)(void* memory, void* user), void* user,
                                 syncbn_scratch** out) {
  return guarded([&] {
    capi::require(out, "out");
    *out = new syncbn_scratch{Scratch(capi::to_allocate(allocate, release, user))};
  });
}

void syncbn_scratch_free(syncbn_scratch* scratch) {
  delete scratch;
}

syncbn_status syncbn_forward_sums(const syncbn_tensor* x, const float* position_weights,
                                  const double* pivot, double* sums,
                                  const syncbn_phase_options* options) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    forward_sums(view, to_span(pivot, channels_of(view), "pivot"), to_sums(sums, view),
                 to_weight(position_weights, view), to_options(options));
  });
}

syncbn_status syncbn_finalize(int64_t channels, const double* sums, const double* pivot, double eps,
                              double* mean, double* var, double* invstd, double* count) {
  return guarded([&] {
    const std::size_t c = to_length(channels);
    const std::span<const double> summed = to_span(sums, sums_length(channels), "sums");
    const std::span<const double> about = to_span(pivot, c, "pivot");
    capi::require_apart(
        std::array<std::span<const double>, 6>{to_span(mean, c, "mean"), to_span(var, c, "var"),
                                               to_span(invstd, c, "invstd"),
                                               to_span(count, 1, "count"), about, summed},
        "mean, var, invstd, count, pivot and sums");
    Statistics statistics;
    finalize(summed, about, eps, statistics);
    std::ranges::copy(statistics.mean, mean);
    std::ranges::copy(statistics.var, var);
    std::ranges::copy(statistics.invstd, invstd);
    *count = statistics.count;
  });
}

syncbn_status syncbn_normalize(const syncbn_tensor* x, const syncbn_pass* pass,
                               const syncbn_tensor* y, const syncbn_phase_options* options) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    const syncbn_pass of = read_pass(pass);
    normalize(view, to_statistics(of, view), to_affine(of, view), {of.negative_slope},
              to_optional_view(of.residual, "residual"), to_view(y, "y"),
              to_weight(of.position_weights, view), to_options(options));
  });
}

syncbn_status syncbn_backward_sums(const syncbn_tensor* x, const syncbn_pass* pass, double* sums,
                                   const syncbn_phase_options* options) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    backward_sums(to_context(read_pass(pass), view), to_sums(sums, view), to_options(options));
  });
}

syncbn_status syncbn_input_gradient(const syncbn_tensor* x, const syncbn_pass* pass,
                                    const double* sums, const syncbn_tensor* dx,
                                    const syncbn_tensor* dresidual,
                                    const syncbn_phase_options* options) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    input_gradient(to_context(read_pass(pass), view), to_sums(sums, view), to_view(dx, "dx"),
                   to_optional_view(dresidual, "dresidual"), to_options(options));
  });
}

syncbn_status syncbn_add_parameter_gradients(int64_t channels, const double* sums,
                                             const double* invstd, syncbn_array weight_grad,
                                             syncbn_array bias_grad, syncbn_device device,
                                             const syncbn_phase_options* options) {
  return guarded([&] {
    const std::size_t length = to_length(channels);
    const Device on = capi::to_device(device);
    add_parameter_gradients(to_span(sums, sums_length(channels), "sums"),
                            to_span(invstd, length, "invstd"),
                            to_written_array(weight_grad, channels, on),
                            to_written_array(bias_grad, channels, on), to_options(options));
  });
}

syncbn_status syncbn_expect_batch(const syncbn_batch_state* state, double momentum,
                                  syncbn_dtype dtype, const syncbn_phase_options* options) {
  return guarded([&] {
    expect_batch(to_state(state), capi::to_momentum(momentum), capi::to_dtype(dtype),
                 to_options(options));
  });
}

syncbn_status syncbn_move_far_pivots(int64_t channels, const double* sums, double* pivot,
                                     double eps, syncbn_dtype dtype, int round, int* any) {
  return guarded([&] {
    const std::size_t length = to_length(channels);
    capi::require(any, "any");
    *any = move_far_pivots(to_span(sums, sums_length(channels), "sums"),
                           to_span(pivot, length, "pivot"), eps, capi::to_dtype(dtype), round)
               ? 1
               : 0;
  });
}

syncbn_status syncbn_finalize_batch(const double* sums, const syncbn_batch_state* state, double eps,
                                    double momentum, syncbn_dtype dtype, double* mean, double* var,
                                    double* invstd, double* count,
                                    const syncbn_phase_options* options) {
  return guarded([&] {
    const BatchState of = to_state(state);
    const std::size_t length = of.pivot.size();
    capi::require(count, "count");
    finalize_batch(to_span(sums, 2 * length + 1, "sums"), of, eps, capi::to_momentum(momentum),
                   capi::to_dtype(dtype),
                   {to_span(mean, length, "mean"), to_span(var, length, "var"),
                    to_span(invstd, length, "invstd"), count},
                   to_options(options));
  });
}

syncbn_status syncbn_state_digest(const syncbn_batch_state* state, syncbn_array gamma,
                                  syncbn_array beta, uint64_t* digest,
                                  const syncbn_phase_options* options) {
  return guarded([&] {
    const BatchState of = to_state(state);
    const auto channels = static_cast<std::int64_t>(of.pivot.size());
    state_digest(of, {to_array(gamma, channels, of.device), to_array(beta, channels, of.device)},
                 digest, to_options(options));
  });
}
