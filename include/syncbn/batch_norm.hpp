// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/phases.hpp"
#include "syncbn/state.hpp"

namespace syncbn {

namespace comm {
enum class Pass : std::uint8_t;
}

/// Whose parameter gradients a backward adds up.
enum class GradientScope : std::uint8_t {
  local,  ///< this rank's share: for trainers that reduce all gradients themselves, as DDP does
  group,  ///< the sum over the group, the same on every rank; no further message
};

/// Names and meanings are those of torch.nn.BatchNorm2d where it has them.
struct BatchNormOptions {
  /// Names the layer in messages; ranks compare it. Equal on every rank, different per layer.
  /// Empty: "batch_norm.K", where K counts the group's unnamed layers, so construct these in the
  /// same order on every rank.
  std::string name = {};
  double eps = 1e-5;
  /// Weight of the newest batch in the running statistics; none: the average of all batches.
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;
  Activation activation = Activation::none;
  GradientScope parameter_gradients = GradientScope::local;
  Backend backend = Backend::cpu;
};

/// What a backward needs of its forward, besides the tensors. Reused from step to step it does not
/// allocate. Each forward that is waiting for its backward has one of its own.
struct Saved {
  Statistics statistics;
  Shape shape;
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  bool had_residual = false;
  std::string layer;         ///< whose forward it was
  std::int64_t forward = 0;  ///< the how many-th; 0: none yet
};

/// Batch normalization (Ioffe & Szegedy 2015) with the statistics of the whole group's batch.
///
/// `forward` and `backward` are collective over the group: one all-reduce of 2C + 9 doubles each,
/// whatever the number of ranks. (A forward repeats it once if the pivot was far from the mean, see
/// pivot_retries; before the layer's first comes one of 8.) Ranks may hold shards of any size, none
/// included. The result is that of one rank holding the whole batch, up to rounding.
///
/// A call that throws InvalidArgument, NotConfigured or CommError leaves parameters, gradients,
/// running statistics and `saved` as they were; output tensors may have been written.
class BatchNorm {
 public:
  /// Local. gamma = 1, beta = 0, running_mean = 0, running_var = 1.
  BatchNorm(std::int64_t channels, Communicator group, BatchNormOptions options = {});

  std::int64_t channels() const { return channels_; }
  const BatchNormOptions& options() const { return options_; }
  const Communicator& communicator() const { return group_; }

  /// Collective. Normalizes with the group's batch statistics and updates the running ones (their
  /// variance unbiased, as PyTorch's). y may be x. Fills `saved`.
  ///
  /// A global batch of one element per channel gives y = beta and does not move running_var; one of
  /// none moves nothing.
  void forward(ConstTensorView x, TensorView y, Saved& saved);
  /// As above with y = activation(normalized + residual).
  void forward(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved);

  /// Collective. x and `saved` are those of the forward. Writes dx and adds to weight_grad and
  /// bias_grad. dx may be dy.
  void backward(const Saved& saved, ConstTensorView x, ConstTensorView dy, TensorView dx);
  /// For a forward with a residual: y is its output; `dresidual` receives the residual's gradient.
  void backward(const Saved& saved, ConstTensorView x, ConstTensorView y, ConstTensorView dy,
                TensorView dx, TensorView dresidual);

  /// Local. Normalizes with the running statistics. Without track_running_stats: collective, with
  /// the group's batch statistics, which also become the pivot of the next sums.
  void infer(ConstTensorView x, TensorView y);
  void infer(ConstTensorView x, ConstTensorView residual, TensorView y);

  /// gamma and beta [C], empty without affine. Write through them to update; keep them equal on all
  /// ranks. They stay valid as long as the layer.
  std::span<double> weight() { return weight_; }
  std::span<double> bias() { return bias_; }
  /// Their gradients [C], summed over backwards since the last zero_grad.
  std::span<double> weight_grad() { return weight_grad_; }
  std::span<double> bias_grad() { return bias_grad_; }
  void zero_grad();

  /// [C], empty without track_running_stats. The pivot of the sums follows from the mean, so both
  /// must have the same bits on every rank; forward throws CommError where they have not.
  std::span<double> running_mean() { return running_mean_; }
  std::span<double> running_var() { return running_var_; }
  std::int64_t num_batches_tracked() const { return num_batches_tracked_; }

  /// How many times the sums had to be taken twice: usually at most once after a start, and when
  /// activations jump.
  std::int64_t pivot_retries() const { return pivot_retries_; }

  /// Local. Adds `prefix` + weight, bias, running_mean, running_var, num_batches_tracked to
  /// `state`, those which the layer has: the names of PyTorch's state_dict, values as F64.
  void save_state(StateDict& state, std::string_view prefix = {}) const;
  /// Local. Takes them back, from any floating type. Throws FileError if one is missing, of another
  /// length, or not finite; then the layer is as it was. Other entries of `state` are ignored.
  void load_state(const StateDict& state, std::string_view prefix = {});

  /// Local. The same with a safetensors file of this layer alone.
  void save(const std::filesystem::path& file) const;
  void load(const std::filesystem::path& file);

 private:
  void forward_with(ConstTensorView x, std::optional<ConstTensorView> residual, TensorView y,
                    Saved& saved);
  void backward_with(const Saved& saved, ConstTensorView x, std::optional<ConstTensorView> y,
                     ConstTensorView dy, TensorView dx, std::optional<TensorView> dresidual);
  void infer_with(ConstTensorView x, std::optional<ConstTensorView> residual, TensorView y);
  void take_group_statistics(comm::Pass pass, ConstTensorView x);
  void choose_pivot();
  std::uint64_t shared_state() const;
  void take_running_statistics();
  void update_running_statistics();
  Affine affine() const { return {weight_, bias_}; }

  std::int64_t channels_;
  Communicator group_;
  BatchNormOptions options_;
  std::vector<double> weight_, bias_, weight_grad_, bias_grad_;
  std::vector<double> running_mean_, running_var_;
  std::int64_t num_batches_tracked_ = 0;
  std::int64_t forwards_ = 0;
  std::int64_t pivot_retries_ = 0;

  // Workspace, sized by the constructor.
  std::vector<float> pivot_;      ///< [C] last batch mean when no running mean is tracked
  std::vector<double> sums_;      ///< one message
  std::vector<double> own_sums_;  ///< this rank's share of a backward's
  Statistics statistics_;         ///< of the forward or infer under way
};

}  // namespace syncbn
