// SPDX-License-Identifier: Apache-2.0
#pragma once

// Batch norm cut in phases at its two all-reduces, for a program that brings its own:
//
//   forward_sums -> (sum over the group) -> finalize -> normalize
//   backward_sums -> (sum over the group) -> input_gradient
//
// BatchNorm (syncbn/batch_norm.hpp) is these functions with a Communicator in between. What it
// decides from batch to batch, so that sums are as exact as they can be, is in the functions over a
// BatchState. Below, N is samples, C channels, S positions per sample (see Shape); the group is the
// ranks that share the statistics, and a shard is one rank's samples.
//
// All functions are local, hold no state and may be called from several threads at once on
// different data. On the CPU they spread their work over OpenMP threads, by default no more than
// the CPU quota of a container is worth. Results depend neither on the number of threads, nor on
// whether any of them or the calling thread flushes subnormal numbers to zero or does not round to
// nearest.
//
// Where the tensors are in the memory of a CUDA device, so is everything else that a function is
// given: arrays, sums, weights. The function puts its work on the stream of its PhaseOptions and
// returns, without waiting, and can be captured in a CUDA graph if it is given a Scratch that has
// served a call like it before. The device must be current, and values of weights and pivots are
// not checked. move_far_pivots and finalize are for the CPU's memory: a program on a device, where
// the host does not see the sums, uses finalize_batch, which says how. Memory that is said to be
// the CPU's is not looked at.
//
// Every function throws InvalidArgument, before anything is written, if shapes, types or lengths do
// not fit together, memory is not aligned to its elements or not on the same device, or what it
// writes overlaps something else that it is given. Where it says that one tensor may be another,
// both begin at the same place. In a build without a device, one that is given a device's tensor
// throws NotConfigured.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "syncbn/array_view.hpp"
#include "syncbn/backend.hpp"
#include "syncbn/device.hpp"
#include "syncbn/export.h"
#include "syncbn/tensor_view.hpp"

namespace syncbn {

/// An Activation is an elementwise function fused behind the normalization and the residual add: z
/// where z > 0, negative_slope * z elsewhere.
struct Activation {
  double negative_slope = 1;  ///< finite, at least 0

  static const Activation none;
  static const Activation relu;
  static constexpr Activation leaky_relu(double negative_slope = 0.01) { return {negative_slope}; }

  friend constexpr bool operator==(const Activation&, const Activation&) = default;
};
inline constexpr Activation Activation::none{1};
inline constexpr Activation Activation::relu{0};

/// Returns how many doubles the sums of either pass are: two per channel, and the element count.
/// (The layer sends one more; eight more go over a custom group's or MPI's own all-reduce, to tell
/// when ranks disagree.)
constexpr std::size_t sums_length(std::int64_t channels) {
  return 2 * static_cast<std::size_t>(channels) + 1;
}

/// Statistics hold what a global batch gives per channel, in double whatever the tensors' type.
struct Statistics {
  std::vector<double> mean;    ///< [C]                          [units of x]
  std::vector<double> var;     ///< [C] biased: divided by count [units of x^2]
  std::vector<double> invstd;  ///< [C] 1 / sqrt(var + eps), 0 where var + eps is (as PyTorch)
  double count = 0;            ///< elements per channel in the whole group, an exact integer
};

/// A StatisticsView points to statistics, [C] each.
struct StatisticsView {
  StatisticsView(std::span<const double> means, std::span<const double> invstds)
      : mean(means), invstd(invstds) {}
  StatisticsView(const Statistics& of) : mean(of.mean), invstd(of.invstd) {}

  std::span<const double> mean;
  std::span<const double> invstd;
};

/// Affine holds gamma and beta, [C] each, of any float types. Both empty mean 1 and 0.
struct Affine {
  ConstArrayView gamma = {};
  ConstArrayView beta = {};
};

/// A Scratch is memory that phases compute with; it grows as they need it and holds nothing between
/// them. One serves one thread at a time and, on a CUDA device, calls that follow each other: in
/// one stream, or in several that wait for each other. Keep it until their work is done, and for
/// graphs that hold it.
class SYNCBN_API Scratch {
 public:
  struct Impl;  ///< defined inside the library

  /// With an empty function the library allocates. On the CPU it always does.
  explicit Scratch(Allocate allocate = {});
  Scratch(Scratch&&) noexcept;
  Scratch& operator=(Scratch&&) noexcept;
  ~Scratch();

 private:
  std::unique_ptr<Impl> impl_;
};

/// Says how a phase computes.
struct PhaseOptions {
  CudaStream stream = nullptr;  ///< where work on a CUDA device goes
  /// Null: the call allocates some memory of the order of C, and gives it back. On a CUDA device
  /// that waits for the device.
  Scratch* scratch = nullptr;
  /// What computes on the CPU. Results differ by rounding; where bf16 leaves the range of float,
  /// Backend::cpu gives infinity, and reference, which is slow, does not.
  Backend backend = Backend::cpu;
};

/// PositionWeights give each position a weight: [N, S], finite and at least 0, the same for all
/// channels; empty means 1 everywhere. Both passes of a step must be given the same. A position of
/// weight w counts as w equal ones in the statistics, whose count n is then the sum of the weights.
/// A position of weight 0 counts as absent: x is not looked at, y and dx are 0. So ragged batches
/// can be padded, and their padding may hold anything.
///
/// Do not scale weights to a sum of 1. That is a batch of one element, which says nothing about the
/// variance: a running variance, which is corrected by n / (n - 1), stays as it is where n is below
/// 2.
using PositionWeights = std::span<const float>;

/// Computes the shard's sums = { sum(x - pivot) [C], sum((x - pivot)^2) [C], elements per channel }
/// in one read of x. `sums` has sums_length(C) doubles.
///
/// `pivot` [C] is a guess of the mean, and must have the same bits on every rank whose sums are
/// added; the closer it is to the mean, the less is lost (see move_far_pivots). For other types
/// than f64 its values must be finite floats. Terms of 16-bit types are computed in float and added
/// in float in short runs: with bf16, the sums become infinite if |x - pivot| exceeds 1e18 or a
/// weight makes a term exceed 1e37, and squares of differences below 1e-19 are lost.
SYNCBN_API void forward_sums(ConstTensorView x, std::span<const double> pivot,
                             std::span<double> sums, PositionWeights position_weights = {},
                             const PhaseOptions& options = {});

/// Moves pivots that turn out to be far from the mean, and returns whether there was any: then take
/// the sums about them again, and ask again with the next round. A pivot is far if the rounding of
/// the accumulated squares, relative to var + eps, may exceed 1e-9 (1e-13 for f64, 5e-5 for 16-bit
/// types) and another is nearer. It moves to the mean that the sums give, for other types than f64
/// rounded to float; where that is not finite, or less than the error of the sums may be, to 0. The
/// others stay, and with them the bits of their sums. This is what BatchNorm does.
///
/// `round` is how often this was asked for the batch before, from 0 on. Once is enough as a rule;
/// after a pivot that was off by more than 1e15 standard deviations (16-bit types: 1e6) it may not
/// be. From round 4 on the answer is false: what is left, no pivot mends. bf16 whose squares leave
/// the range of float is such a case, which BatchNorm sums in double; Backend::reference does that.
///
/// Sums and pivot are in the CPU's memory. The answer depends on nothing but the arguments, so it
/// is the same on every rank.
SYNCBN_API bool move_far_pivots(std::span<const double> sums, std::span<double> pivot, double eps,
                                DType dtype, int round);

/// Computes statistics from the group's `sums` about `pivot`, in the CPU's memory. With a count of
/// 0, mean = pivot and var = 0. `eps` is finite and at least 0. Reuses the storage of `out`.
SYNCBN_API void finalize(std::span<const double> sums, std::span<const double> pivot, double eps,
                         Statistics& out);

/// Writes y = activation((x - mean) * invstd * gamma + beta [+ residual]), in one read of x (and
/// residual) and one write of y. y may be x or residual. All tensors have x's shape, type and
/// layout.
SYNCBN_API void normalize(ConstTensorView x, StatisticsView statistics, Affine affine,
                          Activation activation, std::optional<ConstTensorView> residual,
                          TensorView y, PositionWeights position_weights = {},
                          const PhaseOptions& options = {});

/// A BackwardContext holds what both backward phases need to know of their forward. All tensors
/// have x's shape, type and layout.
struct BackwardContext {
  /// The forward's input; with `from_output`, its output.
  ConstTensorView x;
  ConstTensorView dy;
  StatisticsView statistics;
  Affine affine = {};
  Activation activation = Activation::none;
  /// The forward's output, needed if there are both an activation and a residual. Where it is left
  /// out, the side of the activation that a value was on is recomputed from x.
  std::optional<ConstTensorView> y = {};
  PositionWeights position_weights = {};
  /// Says that x is the forward's output, from which the input is recovered: (x - mean) * invstd
  /// becomes (z - beta) / gamma, where z = x where x > 0 and x / negative_slope elsewhere. This
  /// needs a negative_slope above 0, no gamma of 0, and no residual.
  bool from_output = false;
};

/// Computes the shard's sums = { sum(dz) [C], sum(dz * (x - mean)) [C], elements per channel },
/// where dz is dy taken back through the activation, in one read of x and dy (and y if given).
/// `sums` has sums_length(C) doubles. With bf16, products beyond 1e37 make the sums infinite, and
/// those below 1e-38 are lost.
///
/// The shard's own parameter gradients are dgamma = sums[C + c] * invstd[c], dbeta = sums[c].
SYNCBN_API void backward_sums(const BackwardContext& context, std::span<double> sums,
                              const PhaseOptions& options = {});

/// Writes dx = gamma * invstd * (dz - a / n - (x - mean) * invstd^2 * b / n), where the group's
/// sums are {a, b, n}. `dresidual`, if given, receives dz. Takes one read of x and dy (and y), one
/// write of dx (and dresidual). dx or dresidual may be dy.
SYNCBN_API void input_gradient(const BackwardContext& context, std::span<const double> sums,
                               TensorView dx, std::optional<TensorView> dresidual,
                               const PhaseOptions& options = {});

/// Adds to the gradients of gamma and beta, [C] each, of any float types: weight_grad += sums[C +
/// c]
/// * invstd[c], bias_grad += sums[c], with the sums of backward_sums, this rank's or the group's.
SYNCBN_API void add_parameter_gradients(std::span<const double> sums,
                                        std::span<const double> invstd, ArrayView weight_grad,
                                        ArrayView bias_grad, const PhaseOptions& options = {});

// --- what a layer decides from batch to batch ---------------------------------------------------

// A forward with the layer's exactness, in the CPU's memory:
//
//   expect_batch(state, momentum, dtype);  // once, and after running statistics were loaded
//   for (int round = 0;; ++round) {
//     forward_sums(x, state.pivot, sums);
//     ...                                  // all-reduce the sums
//     if (!move_far_pivots(sums, state.pivot, eps, dtype, round)) break;
//   }
//   finalize_batch(sums, state, eps, momentum, dtype, {mean, var, invstd, &count});
//   normalize(x, {mean, invstd}, {gamma, beta}, activation, residual, y);

/// A BatchState points to what a layer keeps from batch to batch: the caller's arrays, on one
/// device. With running statistics it has all of them, without them only the pivot.
struct BatchState {
  std::span<double> pivot;      ///< [C] the next sums are about this; 0 at first
  ArrayView running_mean = {};  ///< [C] of any float type; 0 at first
  ArrayView running_var = {};   ///< [C] of any float type, unbiased; 1 at first
  /// [C] The library notes here, at the first batch, what the running statistics began with, so
  /// that it can tell what they predict. Set them to 0 and 1 at first, and again (not to the loaded
  /// values) after running statistics were loaded.
  std::span<double> start_mean = {};
  std::span<double> start_var = {};
  std::int64_t* num_batches_tracked = nullptr;  ///< [1]; 0 at first
  Device device = Device::cpu();                ///< of all of these
};

/// Sets the pivot to the mean that the running statistics predict. That is for the first forward,
/// and the first after running statistics were loaded: later ones have the pivot that
/// finalize_batch chose. `momentum` is as in BatchNormOptions. Throws InvalidArgument without
/// running statistics.
SYNCBN_API void expect_batch(const BatchState& state, std::optional<double> momentum, DType dtype,
                             const PhaseOptions& options = {});

/// StatisticsSpans are where the statistics of a batch are written: [C] each, and the count [1], on
/// the state's device.
struct StatisticsSpans {
  std::span<double> mean;
  std::span<double> var;  ///< biased
  std::span<double> invstd;
  double* count = nullptr;
};

/// Computes statistics from the group's `sums` about the state's pivot, moves the running
/// statistics and the number of batches if the state has them, and chooses the pivot of the next
/// sums. A batch of no elements moves nothing. Every rank that passes the same gets the same bits.
///
/// On the CPU, ask move_far_pivots first. On a device, where the host does not
/// see the sums, take the sums of a first forward twice: the first time call this with the pivot
/// alone, which moves it to the mean.
SYNCBN_API void finalize_batch(std::span<const double> sums, const BatchState& state, double eps,
                               std::optional<double> momentum, DType dtype,
                               const StatisticsSpans& out, const PhaseOptions& options = {});

/// Writes a hash of the pivot, the running statistics and, unless they are empty, gamma and beta.
/// Ranks compare it, because these decide how the next sums are taken; where they differ, sums
/// about different pivots would be added. `digest` is [1], on the state's device.
SYNCBN_API void state_digest(const BatchState& state, Affine affine, std::uint64_t* digest,
                             const PhaseOptions& options = {});

}  // namespace syncbn
