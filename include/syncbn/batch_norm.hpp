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
#include "syncbn/export.h"
#include "syncbn/phases.hpp"
#include "syncbn/state.hpp"

namespace syncbn {

/// A GradientScope says over which ranks a backward sums the parameter gradients.
enum class GradientScope : std::uint8_t {
  local,  ///< this rank alone: for trainers that reduce all gradients themselves, as DDP does
  group,  ///< the group, with the same result on every rank; costs no further message
};

/// A Reproducibility says what the bits of results may depend on.
enum class Reproducibility : std::uint8_t {
  /// Every rank gets the same bits, and so does every run with the same ranks. With another number
  /// of ranks, or another distribution of the batch, results agree up to rounding.
  rank_consistent,
  /// Outputs, input gradients, running statistics, and parameter gradients of the group have the
  /// same bits however many ranks there are and however the samples are distributed over them. They
  /// do not depend on threads, blocks of channels or transport either. They do depend on the
  /// layout; on the vector instructions (all those with fused multiplication and addition give the
  /// same); on whether weights are given (to all ranks or to none); and on the layer's earlier
  /// steps since it was made or since its last load_state.
  ///
  /// Terms are rounded to integers, in units that follow from earlier steps, and the integers are
  /// summed. Where a term does not fit, and in the first steps, a channel's sums are taken again,
  /// for that channel alone: two more reads of x and three more messages, in a forward up to twice
  /// (pivot_retries counts such forwards). Messages have 4C + 20 doubles forward and 5C + 20
  /// backward, for f64 8C + 20 and 9C + 20. There may be up to 2^19 ranks and 2^34 elements per
  /// channel, of any values.
  ///
  /// The relative error of var + eps is at most 2^-25 (f64: 1e-14), or with outliers n 2^-46 for n
  /// elements; usually it is smaller by orders of magnitude. The error of the mean is at most the
  /// same part of sqrt(var + eps), plus the rounding of double. Weights may be of any size, but
  /// where their average is below 2^-8, or some are far above 1, sums are taken twice in every
  /// step.
  exact,
};

/// BatchNormOptions configure a layer. Names and meanings are those of torch.nn.BatchNorm2d where
/// it has them. All but `backend` must be equal on all ranks.
struct BatchNormOptions {
  /// The layer's name in error messages. Ranks compare it. An empty one becomes "batch_norm.K",
  /// where K counts the group's unnamed layers, so construct these in the same order on every rank.
  /// Layers of the same name are counted in the order in which each rank constructs them over its
  /// communicator; if ranks call different ones of them, the call throws CommError.
  std::string name = {};
  double eps = 1e-5;
  /// The newest batch's weight in the running statistics, 0 to 1; none: the average of all batches.
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;
  Activation activation = Activation::none;
  GradientScope parameter_gradients = GradientScope::local;
  /// A pass is cut into this many blocks of channels, each with a message of its own that travels
  /// while the next block is summed. With 0 the layer chooses blocks that stay in the cache between
  /// their two reads. It then makes one block of all channels where the whole tensor fits the
  /// cache, where messages are slow (together over a twentieth of a forward), or where a channel's
  /// elements lie apart (channels_last, planes below 32), as memory in small pieces is slower.
  /// Results do not depend on it, beyond rounding.
  std::int64_t channel_blocks = 0;
  Reproducibility reproducibility = Reproducibility::rank_consistent;
  Backend backend = Backend::cpu;
  /// Makes ranks compare gamma and beta, bit by bit; false for parameters that are to differ. Each
  /// forward with batch statistics compares an eighth of the channels (at least 8), the next
  /// forward the next eighth. Where they differ, forward throws CommError.
  bool compare_parameters = true;
};

/// A Saved holds what a backward needs from its forward, besides the tensors. Each forward that is
/// waiting for its backward needs one of its own. One that is reused from step to step does not
/// allocate.
struct Saved {
  Statistics statistics;
  Shape shape;
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  bool had_residual = false;
  bool had_weight = false;
  bool in_place = false;
  bool frozen = false;             ///< normalized with the running statistics
  std::int64_t blocks = 1;         ///< blocks of channels in its backward, the same on all ranks
  std::string layer;               ///< name of the layer whose forward it was
  std::uint64_t layer_number = 0;  ///< that layer's number, unique in this process
  std::int64_t forward = 0;        ///< number of that forward, from 1; 0: none yet; -1: an infer
};

/// Batch normalization (Ioffe & Szegedy 2015) with the statistics of the whole group's batch.
///
/// Ranks may hold any number of samples, also none. The result is that of one rank holding the
/// whole batch, up to rounding.
///
/// `forward` and `backward` are collective over the group and take one all-reduce of 2C + 2 doubles
/// each, whatever the number of ranks; for tensors larger than the cache, after the first steps,
/// one such all-reduce for each block of channels (see BatchNormOptions::channel_blocks). A custom
/// communicator or MPI's own all-reduce is given 8 doubles more, and sums 8 by themselves before
/// the first message of each length. Sums are taken about a pivot, a guess of the mean that all
/// ranks share; if it was far off, a forward sums and exchanges once more (see pivot_retries).
///
/// All calls compute as IEEE 754 says by default, rounding to nearest and keeping subnormal
/// numbers, however the calling thread and those of OpenMP are set, and leave their settings as
/// they were.
///
/// Memory that a call writes must not overlap anything else that it is given, except where the call
/// says that one tensor may be another: then both begin at the same place. Tensors, weights and
/// arrays are aligned to their elements' size. Ranks call the same function: all with a residual or
/// none, all in place or none. Calls throw InvalidArgument for memory, and CommError for ranks,
/// that break these rules.
///
/// A call that throws InvalidArgument, NotConfigured or CommError leaves parameters, gradients,
/// running statistics and `saved` as they were; output tensors may have been written.
class SYNCBN_API BatchNorm {
 public:
  struct Impl;  ///< defined inside the library

  /// Local. Makes a layer of `channels` channels, 1 to Shape::most_channels, with gamma = 1, beta =
  /// 0, running_mean = 0 and running_var = 1. Throws InvalidArgument for channels or options out of
  /// range.
  BatchNorm(std::int64_t channels, Communicator group, BatchNormOptions options = {});
  /// A layer that was moved from may only be destroyed or assigned to. Spans and references that it
  /// gave belong to the new one.
  BatchNorm(BatchNorm&&) noexcept;
  BatchNorm& operator=(BatchNorm&&) noexcept;
  ~BatchNorm();

  std::int64_t channels() const;
  const BatchNormOptions& options() const;
  const Communicator& communicator() const;

  /// Collective. Writes y = activation(normalized x) with the group's batch statistics, updates the
  /// running ones (their variance unbiased, as PyTorch's) and fills `saved`. y may be x.
  /// `position_weights` gives positions weights (see phases.hpp): a trainer passes its mask of
  /// padding here, and every rank may have its own, or none.
  ///
  /// A global batch of one element per channel gives y = beta before the activation, and does not
  /// move running_var; one without elements moves nothing.
  void forward(ConstTensorView x, TensorView y, Saved& saved,
               PositionWeights position_weights = {});
  /// Collective. Does the same with y = activation(normalized x + residual). y may be the residual.
  void forward(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved,
               PositionWeights position_weights = {});

  /// Collective. Writes dx, and adds to weight_grad and bias_grad. x, `saved` and the weights are
  /// those of the forward. dx may be dy.
  void backward(const Saved& saved, ConstTensorView x, ConstTensorView dy, TensorView dx,
                PositionWeights position_weights = {});
  /// Collective. Does the same for a forward with a residual, whose output is y, and writes the
  /// residual's gradient to `dresidual`. Either dx or dresidual may be dy.
  void backward(const Saved& saved, ConstTensorView x, ConstTensorView y, ConstTensorView dy,
                TensorView dx, TensorView dresidual, PositionWeights position_weights = {});

  /// Collective. Overwrites x with y, from which backward_in_place recovers the input, so that a
  /// trainer keeps one tensor instead of two (Rota Bulo, Porzi & Kontschieder 2018, In-Place
  /// Activated BatchNorm). Between the two calls nothing may write to it, nor to gamma and beta.
  /// Throws InvalidArgument before anything is written if the activation's slope, or a gamma, is
  /// smaller than the smallest normal float, 2^-126 (so relu, or a gamma of 0).
  ///
  /// The backward sees y rounded to its type. With u the type's unit roundoff and z the value of y
  /// before the activation, (x - mean) / std is recovered to about u |z / gamma|: less accurately
  /// where |beta| is far above |gamma|. A z whose y underflows is lost.
  void forward_in_place(TensorView x, Saved& saved, PositionWeights position_weights = {});
  /// Collective. Does what `backward` does, with y as forward_in_place left it instead of x. dx may
  /// be dy.
  void backward_in_place(const Saved& saved, ConstTensorView y, ConstTensorView dy, TensorView dx,
                         PositionWeights position_weights = {});

  /// Local. Writes y as `forward` does, with the running statistics. Without track_running_stats it
  /// is collective and uses the group's batch statistics, from which the pivot of the next sums
  /// also follows.
  void infer(ConstTensorView x, TensorView y, PositionWeights position_weights = {});
  void infer(ConstTensorView x, ConstTensorView residual, TensorView y,
             PositionWeights position_weights = {});
  /// Local. Does the same and fills `saved` for a `backward`: training with frozen statistics, as
  /// detectors are fine-tuned. That backward writes dx = gamma * invstd * dz and adds to the
  /// parameter gradients as ever; it is local with GradientScope::local, else collective. Throws
  /// NotConfigured without track_running_stats.
  void infer(ConstTensorView x, TensorView y, Saved& saved, PositionWeights position_weights = {});
  void infer(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved,
             PositionWeights position_weights = {});

  /// Local. Return gamma and beta [C], empty without affine. Write through the spans to update;
  /// keep the values equal on all ranks (see BatchNormOptions::compare_parameters). Like all spans
  /// below, they stay valid as long as the layer.
  std::span<double> weight();
  std::span<double> bias();
  /// Local. Return the gradients [C] of gamma and beta, summed over backwards since the last
  /// zero_grad.
  std::span<double> weight_grad();
  std::span<double> bias_grad();
  void zero_grad();

  /// Local. Return the running statistics [C], empty without track_running_stats. The pivot of the
  /// sums follows from them, so they must have the same bits on every rank; forward throws
  /// CommError if they have not.
  std::span<double> running_mean();
  std::span<double> running_var();
  std::int64_t num_batches_tracked() const;

  /// Local. Returns how many forwards had to take their sums again: usually at most one after a
  /// start, and those where activations jump. Such a forward does so once, and up to four times if
  /// the mean jumps by more than 1e15 standard deviations (16-bit types: 1e6).
  std::int64_t pivot_retries() const;

  /// Local. Adds the layer's state to `state`, under the names of PyTorch's state_dict: `prefix` +
  /// weight, bias, running_mean, running_var (F64, [C]) and num_batches_tracked (I64), those which
  /// the layer has. Throws FileError if a value is not finite, which load_state would refuse; some
  /// may be added by then.
  void save_state(StateDict& state, std::string_view prefix = {}) const;
  /// Local. Takes the layer's state from `state`, from F16, BF16, F32 or F64. Throws FileError if
  /// an entry is missing, of another length or not finite, or a variance is negative; then the
  /// layer is as it was. num_batches_tracked may also be of any integer type, and is 0 if it is
  /// missing, as in PyTorch. Other entries of `state` are ignored.
  void load_state(const StateDict& state, std::string_view prefix = {});

  /// Local. Write and read a safetensors file of this layer alone; see save_safetensors. `load`
  /// throws FileError as load_state does, and for entries that are not the layer's.
  void save(const std::filesystem::path& file) const;
  void load(const std::filesystem::path& file);

 private:
  std::unique_ptr<Impl> impl_;
};

/// A ForwardCall holds the arguments of one BatchNorm::forward, for forward_together.
struct ForwardCall {
  BatchNorm& layer;
  ConstTensorView x;
  TensorView y;
  Saved& saved;
  std::optional<ConstTensorView> residual = std::nullopt;
  PositionWeights position_weights = {};
};

/// A BackwardCall holds the arguments of one BatchNorm::backward, for backward_together.
struct BackwardCall {
  BatchNorm& layer;
  const Saved& saved;
  ConstTensorView x;
  ConstTensorView dy;
  TensorView dx;
  std::optional<ConstTensorView> y = std::nullopt;     ///< given if the forward had a residual
  std::optional<TensorView> dresidual = std::nullopt;  ///< given if the forward had a residual
  PositionWeights position_weights = {};
};

/// Collective. Run the forwards, or the backwards, of several layers of one communicator that are
/// ready at the same time, as in parallel branches, with one message for all: 2C + 2 doubles for
/// each layer, one after the other. Ranks give the same layers in the same order, each once.
/// Results are those of separate calls. This is worth it for small tensors: none is cut into
/// blocks.
///
/// Throw what the separate calls throw, and InvalidArgument for layers of different communicators,
/// a layer or `saved` given twice, or a call that writes what another is given.
SYNCBN_API void forward_together(std::span<const ForwardCall> calls);
SYNCBN_API void backward_together(std::span<const BackwardCall> calls);

}  // namespace syncbn
