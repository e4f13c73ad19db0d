// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "syncbn/communicator.hpp"
#include "syncbn/phases.hpp"
#include "syncbn/state.hpp"

namespace syncbn {

/// Whose parameter gradients a backward adds up.
enum class GradientScope : std::uint8_t {
  local,  ///< this rank's share: for trainers that reduce all gradients themselves, as DDP does
  group,  ///< the sum over the group, the same on every rank; no further message
};

/// What results may depend on.
enum class Reproducibility : std::uint8_t {
  /// Every rank has the same bits, and so has every run with the same ranks. With other ranks, or
  /// another distribution of the batch, results agree up to rounding.
  rank_consistent,
  /// The same bits however many ranks there are and however the samples lie on them: outputs, input
  /// gradients, running statistics, and parameter gradients of the group. They do not depend on
  /// threads, blocks of channels or transport either. What they do depend on: the layout; the
  /// vector instructions (those with fused multiplication and addition give the same); whether
  /// weights are given, on all ranks or on none; and the layer's earlier steps, for what follows a
  /// load_state is as in a layer that begins there.
  ///
  /// Sums are of integers, in units that follow from earlier steps. Where a term does not fit, and
  /// in first steps, they are taken again: two more reads of x and three more messages, in a
  /// forward up to twice (counted by pivot_retries), of a channel by itself whatever its block.
  /// Messages are of 4C + 20 doubles forward and 5C + 20 backward, for f64 of 8C + 20 and 9C + 20.
  /// For up to 2^19 ranks, and 2^34 elements per channel, whatever they are.
  ///
  /// var + eps is as exact as 2^-25 of it (f64: 1e-14), with outliers n 2^-46 for n elements, at
  /// worst; usually by orders of magnitude better. The mean is as exact as the same part of
  /// sqrt(var + eps), and as double holds it. Weights may be of any size,
  /// but where their average is below 2^-8, or some are far above 1, sums are taken twice in every
  /// step.
  exact,
};

/// Names and meanings are those of torch.nn.BatchNorm2d where it has them.
struct BatchNormOptions {
  /// Names the layer in messages; ranks compare it. Equal on every rank. Empty: "batch_norm.K",
  /// where K counts the group's unnamed layers, so construct these in the same order on every rank.
  /// Layers of one name are counted too, in the order in which each rank constructs them over its
  /// communicator: ranks that call another one of them are told.
  std::string name = {};
  double eps = 1e-5;
  /// Weight of the newest batch in the running statistics; none: the average of all batches.
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;
  Activation activation = Activation::none;
  GradientScope parameter_gradients = GradientScope::local;
  /// Into how many blocks of channels a pass is cut, each with a message of its own that travels
  /// while the next is summed. 0: so that a block stays in the cache between its two passes, and
  /// not at all where all fit, where messages are slow (together over a twentieth of a forward), or
  /// where a channel's elements lie apart (channels_last, planes below 32): memory in small pieces
  /// is slower. Results do not depend on it, beyond rounding.
  std::int64_t channel_blocks = 0;
  /// The same on all ranks.
  Reproducibility reproducibility = Reproducibility::rank_consistent;
  Backend backend = Backend::cpu;
  /// Whether ranks compare gamma and beta, bit by bit: in each forward with batch statistics those
  /// of an eighth of the channels (of 8 at least), the next eighth in the next. Where they differ,
  /// forward throws CommError. The same on all ranks; false for parameters that are to differ.
  bool compare_parameters = true;
};

/// What a backward needs of its forward, besides the tensors. Reused from step to step it does not
/// allocate. Each forward that is waiting for its backward has one of its own.
struct Saved {
  Statistics statistics;
  Shape shape;
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  bool had_residual = false;
  bool had_weight = false;
  bool in_place = false;
  bool frozen = false;      ///< normalized with the running statistics
  std::int64_t blocks = 1;  ///< of channels, that its backward is cut into; alike on all ranks
  std::string layer;        ///< whose forward it was, by name
  std::uint64_t layer_number = 0;  ///< and by the number that no other of this process has
  std::int64_t forward = 0;        ///< the how many-th; 0: none yet; -1: an infer
};

/// Batch normalization (Ioffe & Szegedy 2015) with the statistics of the whole group's batch.
///
/// `forward` and `backward` are collective over the group: one all-reduce of 2C + 2 doubles each,
/// whatever the number of ranks; for tensors larger than the cache, after the first steps, one
/// such for each block of channels (see BatchNormOptions::channel_blocks). (A forward repeats it
/// if the pivot was far from the mean, see pivot_retries. Over a custom communicator or MPI's
/// own sum it takes 8 doubles more, and before the first of a length comes one of 8.) Ranks may
/// hold shards of any size, none included. The result is that of one rank holding the whole batch,
/// up to rounding.
///
/// All calls compute as IEEE 754 says by default, rounding to nearest and keeping subnormal
/// numbers, however the calling thread and those of OpenMP are set, and leave their settings as
/// they were.
///
/// Memory that a call writes overlaps nothing else that it is given, except where it says that one
/// tensor may be another: then both begin at the same place. Tensors, weights and arrays are
/// aligned to their elements' size. Ranks call the same function: all with a residual or none, all
/// in place or none. InvalidArgument, or for the ranks CommError, where that is not so.
///
/// A call that throws InvalidArgument, NotConfigured or CommError leaves parameters, gradients,
/// running statistics and `saved` as they were; output tensors may have been written.
class BatchNorm {
 public:
  struct Impl;  ///< defined inside the library

  /// Local. gamma = 1, beta = 0, running_mean = 0, running_var = 1. Channels: 1 to
  /// Shape::most_channels.
  BatchNorm(std::int64_t channels, Communicator group, BatchNormOptions options = {});
  /// A layer that was moved from may only be destroyed or assigned to. Spans and references that it
  /// gave are then the new one's.
  BatchNorm(BatchNorm&&) noexcept;
  BatchNorm& operator=(BatchNorm&&) noexcept;
  ~BatchNorm();

  std::int64_t channels() const;
  const BatchNormOptions& options() const;
  const Communicator& communicator() const;

  /// Collective. Normalizes with the group's batch statistics and updates the running ones (their
  /// variance unbiased, as PyTorch's). y may be x. Fills `saved`. `weight`: see phases.hpp; a
  /// trainer gives its mask of padding here, and every rank may have its own, or none.
  ///
  /// A global batch of one element per channel gives y = beta and does not move running_var; one of
  /// none moves nothing.
  void forward(ConstTensorView x, TensorView y, Saved& saved, Weight weight = {});
  /// As above with y = activation(normalized + residual). y may be the residual.
  void forward(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved,
               Weight weight = {});

  /// Collective. x, `saved` and the weights are those of the forward. Writes dx and adds to
  /// weight_grad and bias_grad. dx may be dy.
  void backward(const Saved& saved, ConstTensorView x, ConstTensorView dy, TensorView dx,
                Weight weight = {});
  /// For a forward with a residual: y is its output; `dresidual` receives the residual's gradient.
  /// Either dx or dresidual may be dy.
  void backward(const Saved& saved, ConstTensorView x, ConstTensorView y, ConstTensorView dy,
                TensorView dx, TensorView dresidual, Weight weight = {});

  /// Collective. Training that keeps one tensor where others keep two (Rota Bulo, Porzi &
  /// Kontschieder 2018, In-Place Activated BatchNorm): x becomes y, and the backward recovers the
  /// input from it. Between the two nothing may write there, nor to gamma and beta. For a layer
  /// without activation or with a leaky_relu whose slope is above 0, and no gamma of 0: else
  /// throws InvalidArgument before anything is written.
  ///
  /// y rounded to its type is what the backward sees: where |beta| is far above |gamma| the input
  /// is recovered with that much less accuracy, (x - mean) / std to about u |z / gamma|,
  /// z being y before the activation; a z whose y underflows is lost.
  void forward_in_place(TensorView x, Saved& saved, Weight weight = {});
  /// Collective. y is what the forward left. dx may be dy.
  void backward_in_place(const Saved& saved, ConstTensorView y, ConstTensorView dy, TensorView dx,
                         Weight weight = {});

  /// Local. Normalizes with the running statistics. Without track_running_stats: collective, with
  /// the group's batch statistics, which also become the pivot of the next sums.
  void infer(ConstTensorView x, TensorView y, Weight weight = {});
  void infer(ConstTensorView x, ConstTensorView residual, TensorView y, Weight weight = {});
  /// Local. As above, and fills `saved` for a `backward`: training with frozen statistics, as
  /// detectors are fine-tuned. That backward is dx = gamma * invstd * dz; it adds to the parameter
  /// gradients as ever, and is local unless these are the group's. Throws NotConfigured without
  /// track_running_stats.
  void infer(ConstTensorView x, TensorView y, Saved& saved, Weight weight = {});
  void infer(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved,
             Weight weight = {});

  /// gamma and beta [C], empty without affine. Write through them to update; keep them equal on all
  /// ranks (see BatchNormOptions::compare_parameters). They stay valid as long as the layer.
  std::span<double> weight();
  std::span<double> bias();
  /// Their gradients [C], summed over backwards since the last zero_grad.
  std::span<double> weight_grad();
  std::span<double> bias_grad();
  void zero_grad();

  /// [C], empty without track_running_stats. The pivot of the sums follows from the mean, so both
  /// must have the same bits on every rank; forward throws CommError where they have not.
  std::span<double> running_mean();
  std::span<double> running_var();
  std::int64_t num_batches_tracked() const;

  /// How many forwards had to take their sums again: usually at most one after a start, and when
  /// activations jump. They do so once, and up to four times where the mean jumps by more than 1e15
  /// standard deviations (16-bit types: 1e6).
  std::int64_t pivot_retries() const;

  /// Local. Adds `prefix` + weight, bias, running_mean, running_var, num_batches_tracked to
  /// `state`, those which the layer has: the names of PyTorch's state_dict, values as F64. Throws
  /// FileError if a value is not finite, which load_state would refuse; some may be added by then.
  void save_state(StateDict& state, std::string_view prefix = {}) const;
  /// Local. Takes them back, from F16, BF16, F32 or F64. Throws FileError if one is missing, of
  /// another length, or not finite; then the layer is as it was. num_batches_tracked may also be of
  /// any integer type, and is 0 if it is missing, as in PyTorch. Other entries of `state` are
  /// ignored.
  void load_state(const StateDict& state, std::string_view prefix = {});

  /// Local. The same with a safetensors file of this layer alone.
  void save(const std::filesystem::path& file) const;
  void load(const std::filesystem::path& file);

 private:
  std::unique_ptr<Impl> impl_;
};

/// A forward to be taken together with others: the arguments of BatchNorm::forward.
struct ForwardCall {
  BatchNorm& layer;
  ConstTensorView x;
  TensorView y;
  Saved& saved;
  std::optional<ConstTensorView> residual = std::nullopt;
  Weight weight = {};
};

/// A backward to be taken together with others: the arguments of BatchNorm::backward.
struct BackwardCall {
  BatchNorm& layer;
  const Saved& saved;
  ConstTensorView x;
  ConstTensorView dy;
  TensorView dx;
  std::optional<ConstTensorView> y = std::nullopt;     ///< for a forward with a residual,
  std::optional<TensorView> dresidual = std::nullopt;  ///< as this
  Weight weight = {};
};

/// Collective. The forwards or the backwards of several layers of one communicator that are ready
/// at the same time, as in parallel branches, with one message for all of them: of 2C + 2 doubles
/// for each, one after the other. Ranks give the same layers in the same order, each once. Results
/// are those of separate calls. Worth it for tensors that are small: none is cut into blocks.
///
/// Throw what the separate calls throw, and InvalidArgument for layers of different communicators,
/// a layer or `saved` given twice, or what one call writes overlapping what another is given.
void forward_together(std::span<const ForwardCall> calls);
void backward_together(std::span<const BackwardCall> calls);

}  // namespace syncbn
