// SPDX-License-Identifier: Apache-2.0
#pragma once

// Batch norm cut at its two exchanges, for a host program that brings its own all-reduce:
//
//   forward_sums -> (sum over the group) -> finalize -> normalize
//   backward_sums -> (sum over the group) -> input_gradient
//
// BatchNorm (syncbn/batch_norm.hpp) is these functions with a Communicator in between. They are
// local, hold no state and may be called from several threads at once on different data. Work
// inside is spread over OpenMP threads, by default no more than the CPU quota of a container is
// worth; the result depends neither on how many there are, nor on whether any of them or the
// calling thread flushes subnormal numbers to zero or does not round to nearest. Each call
// allocates some memory of the order of C (the layer keeps its own).
//
// Every function throws InvalidArgument if shapes, types or lengths do not fit together, memory is
// not aligned to its elements, or what it writes overlaps something else that it is given, before
// anything is written. Where it says that one tensor may be another, both begin at the same place.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "syncbn/backend.hpp"
#include "syncbn/tensor_view.hpp"

namespace syncbn {

/// Elementwise function fused behind the normalization (and behind the residual add): z where z >
/// 0, negative_slope * z elsewhere.
struct Activation {
  double negative_slope = 1;  ///< finite, at least 0

  static const Activation none;
  static const Activation relu;
  static constexpr Activation leaky_relu(double negative_slope = 0.01) { return {negative_slope}; }

  friend constexpr bool operator==(const Activation&, const Activation&) = default;
};
inline constexpr Activation Activation::none{1};
inline constexpr Activation Activation::relu{0};

/// Doubles in either pass's message: two per channel, and the element count. (The layer adds one,
/// over somebody else's sum its Communicator eight, to be able to tell when ranks disagree.)
constexpr std::size_t sums_length(std::int64_t channels) {
  return 2 * static_cast<std::size_t>(channels) + 1;
}

/// Statistics of a global batch, per channel, in double whatever the tensors' type.
struct Statistics {
  std::vector<double> mean;    ///< [C]                          [units of x]
  std::vector<double> var;     ///< [C] biased: divided by count [units of x^2]
  std::vector<double> invstd;  ///< [C] 1 / sqrt(var + eps), 0 where that is 0 (as PyTorch)
  double count = 0;            ///< elements per channel in the whole group, an exact integer
};

/// gamma and beta, [C] each. Both empty means 1 and 0.
struct Affine {
  std::span<const double> gamma;
  std::span<const double> beta;
};

/// Weights of positions. Every phase takes them, or none: `weight` [N, S], finite and at least 0,
/// the same for all channels. A position of weight w counts as w equal ones in the statistics;
/// their count n is then the sum of the weights. (So do not scale them to a sum of 1: that is a
/// batch of one element, which says nothing about the variance: a running variance, which is
/// corrected by n / (n - 1), stays what it is where n is below 2.) One of weight 0 is not there: x
/// is not looked at, y and dx are 0. So ragged batches can be padded, and their padding may hold
/// anything. Both passes must be given the same.
using Weight = std::span<const float>;

/// sums = { sum(x - pivot) [C], sum((x - pivot)^2) [C], elements per channel }, of this shard.
///
/// `pivot` [C] must have the same bits on every rank whose sums are added; the closer it is to the
/// mean, the less is lost (see pivot_is_far). For other types than f64 it is of values that a float
/// can have. Terms of 16-bit types are of float, and added up in
/// float in short runs: with bf16, |x - pivot| beyond 1e18, or a weight that makes a term exceed
/// 1e37, makes the sums infinite, and squares of differences below 1e-19 are lost. One read of x.
void forward_sums(ConstTensorView x, std::span<const double> pivot, std::span<double> sums,
                  Weight weight = {}, Backend backend = Backend::cpu);

/// Whether the reduced `sums` lost too much to a pivot far from the mean: the rounding of the
/// accumulated squares, relative to var + eps, may exceed 1e-9 (1e-13 for f64, 5e-5 for 16-bit
/// types), and another would be nearer. Then move it there (move_pivot_to_mean), take the sums
/// again, and look again: after a pivot that was off by more than 1e15 standard deviations (16-bit
/// types: 1e6) once may not be enough, three times are. The answer depends on nothing but the
/// arguments, so it is the same on every rank.
bool pivot_is_far(std::span<const double> sums, std::span<const double> pivot, double eps,
                  DType dtype);

/// Moves `pivot` to the mean that the reduced `sums` about it give, for other types than f64
/// rounded to float; to 0 where that is not finite, or is less than what the sums may be off by.
void move_pivot_to_mean(std::span<const double> sums, std::span<double> pivot, DType dtype);

/// Statistics from reduced `sums` about `pivot`. With a count of 0: mean = pivot, var = 0. `eps` is
/// finite and at least 0. Reuses the storage of `out`.
void finalize(std::span<const double> sums, std::span<const double> pivot, double eps,
              Statistics& out);

/// y = activation((x - mean) * invstd * gamma + beta [+ residual]). One read of x (and residual),
/// one write of y. y may be x or residual. All tensors have x's shape, type and layout.
void normalize(ConstTensorView x, const Statistics& statistics, Affine affine,
               Activation activation, std::optional<ConstTensorView> residual, TensorView y,
               Weight weight = {}, Backend backend = Backend::cpu);

/// What both backward phases need to know of the forward pass they belong to.
struct BackwardContext {
  /// The forward's input, or with `from_output` its output.
  ConstTensorView x;
  ConstTensorView dy;
  const Statistics& statistics;
  Affine affine = {};
  Activation activation = Activation::none;
  /// The forward's output. Needed with an activation when a residual was added; otherwise the side
  /// of the activation that a value was on is recomputed from x, and y is not read.
  std::optional<ConstTensorView> y = {};
  Weight weight = {};
  /// x is the forward's output and its input is recovered from that: (x - mean) * invstd =
  /// (z - beta) / gamma with z = x where x > 0, x / negative_slope elsewhere. For activations that
  /// can be inverted (a slope above 0), no gamma of 0, and no residual.
  bool from_output = false;
};

/// sums = { sum(dz) [C], sum(dz * (x - mean)) [C], elements per channel }, of this shard, where dz
/// is dy taken back through the activation. With bf16, products beyond 1e37 make the sums infinite,
/// and those below 1e-38 are lost. One read of x and dy (and y if given).
///
/// The shard's own parameter gradients are dgamma = sums[C + c] * invstd[c], dbeta = sums[c].
void backward_sums(const BackwardContext& context, std::span<double> sums,
                   Backend backend = Backend::cpu);

/// dx = gamma * invstd * (dz - a / n - (x - mean) * invstd^2 * b / n) with a, b, n from the reduced
/// sums. `dresidual`, if given, receives dz. One read of x and dy (and y), one write of dx (and
/// dresidual). dx or dresidual may be dy.
void input_gradient(const BackwardContext& context, std::span<const double> sums, TensorView dx,
                    std::optional<TensorView> dresidual, Backend backend = Backend::cpu);

}  // namespace syncbn
