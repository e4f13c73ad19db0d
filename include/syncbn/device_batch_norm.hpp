// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "syncbn/batch_norm.hpp"
#include "syncbn/device_communicator.hpp"

namespace syncbn {

namespace comm {
enum class Pass : std::uint8_t;
}
namespace bn {
struct DeviceState;
struct DeviceStatistics;
struct DeviceWorkspace;
}  // namespace bn

/// What a backward needs of its forward, besides the tensors; in device memory. Reused from step to
/// step it does not allocate. Each forward that is waiting for its backward has one of its own.
class DeviceSaved {
 public:
  DeviceSaved();
  DeviceSaved(DeviceSaved&&) noexcept;
  DeviceSaved& operator=(DeviceSaved&&) noexcept;
  ~DeviceSaved();

  /// [C] of the group's batch, device memory; null before the first forward.
  const double* mean() const;
  const double* var() const;  ///< biased
  const double* invstd() const;

 private:
  friend class DeviceBatchNorm;
  std::unique_ptr<bn::DeviceStatistics> statistics_;
  Saved forward_;  ///< whose; its statistics are empty
};

/// BatchNorm on a CUDA device: tensors, parameters and running statistics are in device memory, and
/// every call puts its work on the caller's stream and returns.
///
/// `forward` and `backward` are collective over the group: one sum of 2C + 1 doubles each and the
/// exchange's own words (DeviceCommunicator). No call waits for the device, unless the group's sums
/// do; after the first steps none allocates, so that from then on passes over an NCCL communicator
/// can be captured in a CUDA graph. The group's device is to be current in every call. Memory that
/// is passed must not be used otherwise until the stream has come so far.
///
/// Sums are about a pivot near the mean, as on the CPU, but terms of other types than f64 are of
/// float, and whether the pivot was near cannot be looked at without waiting. So the first forward
/// after a start or a load_state takes its sums twice, the second time about the mean that the
/// first gave. Later pivots are within a standard deviation of the mean of the batch before: where
/// a channel's mean moves by k of them from one step to the next, that step's variance is off by up
/// to 7e-7 (1 + k)^2 of itself (with f64, by the rounding of double). A first batch in which no
/// rank has an element says nothing of the mean, and leaves the pivot of the next at 0.
///
/// With Reproducibility::exact sums are what they are on the CPU: as exact, the same for any ranks
/// and over every kind of group, and results have the bits of BatchNorm with Backend::cpu where
/// that has fused multiplication and addition (but a NaN may be another NaN, and near the ends of
/// float's range that one computes in double). Which channels' sums are to be taken again is found
/// out on the device, so what that needs is put on the stream in every step: a forward has five
/// sums over the ranks, a backward three. The first, and each second one behind it, are of 4C + 11
/// doubles, in a backward C more, for f64 4C more; the others are of 6C doubles for one rank, 12C
/// for 8, 26C for 1024. x is read again for channels that need it.
///
/// What ranks are told when they disagree or one is missing, and when, is the communicator's
/// business. A call that throws leaves parameters and running statistics as they were.
class DeviceBatchNorm {
 public:
  /// Local; waits for the device. As BatchNorm's. Options::backend and channel_blocks mean nothing
  /// here, and compare_parameters compares all of them each time. Throws NotConfigured in a build
  /// without CUDA.
  DeviceBatchNorm(std::int64_t channels, DeviceCommunicator group, BatchNormOptions options = {});
  DeviceBatchNorm(DeviceBatchNorm&&) noexcept;
  DeviceBatchNorm& operator=(DeviceBatchNorm&&) noexcept;
  ~DeviceBatchNorm();

  std::int64_t channels() const { return channels_; }
  const BatchNormOptions& options() const { return options_; }
  const DeviceCommunicator& communicator() const { return group_; }

  /// Collective. As BatchNorm::forward. `weight`: null, or [N, S] in device memory, which is not
  /// looked at by the host: finite and at least 0, else results are NaN or nonsense.
  void forward(ConstTensorView x, TensorView y, DeviceSaved& saved, CudaStream stream,
               const float* weight = nullptr);
  void forward(ConstTensorView x, ConstTensorView residual, TensorView y, DeviceSaved& saved,
               CudaStream stream, const float* weight = nullptr);

  /// Collective. As BatchNorm::backward.
  void backward(const DeviceSaved& saved, ConstTensorView x, ConstTensorView dy, TensorView dx,
                CudaStream stream, const float* weight = nullptr);
  void backward(const DeviceSaved& saved, ConstTensorView x, ConstTensorView y, ConstTensorView dy,
                TensorView dx, TensorView dresidual, CudaStream stream,
                const float* weight = nullptr);

  /// Collective. As BatchNorm::forward_in_place, but gamma is in device memory and not looked at:
  /// a channel whose gamma is 0, or below the smallest float, gets no gradient of gamma.
  void forward_in_place(TensorView x, DeviceSaved& saved, CudaStream stream,
                        const float* weight = nullptr);
  /// Collective. As BatchNorm::backward_in_place.
  void backward_in_place(const DeviceSaved& saved, ConstTensorView y, ConstTensorView dy,
                         TensorView dx, CudaStream stream, const float* weight = nullptr);

  /// Local: with the running statistics. Throws NotConfigured without track_running_stats.
  void infer(ConstTensorView x, TensorView y, CudaStream stream, const float* weight = nullptr);
  void infer(ConstTensorView x, ConstTensorView residual, TensorView y, CudaStream stream,
             const float* weight = nullptr);
  /// Local. As above, and fills `saved` for a backward with frozen statistics, as BatchNorm's.
  void infer(ConstTensorView x, TensorView y, DeviceSaved& saved, CudaStream stream,
             const float* weight = nullptr);
  void infer(ConstTensorView x, ConstTensorView residual, TensorView y, DeviceSaved& saved,
             CudaStream stream, const float* weight = nullptr);

  /// [C] doubles in device memory, null where the options left them out: to be read and written by
  /// work on the streams that the layer's calls are given. Valid as long as the layer.
  double* weight();
  double* bias();
  double* weight_grad();
  double* bias_grad();
  double* running_mean();
  double* running_var();
  /// [1], of device memory.
  std::int64_t* num_batches_tracked();

  void zero_grad(CudaStream stream);

  /// Local. As BatchNorm's; wait for the stream.
  void save_state(StateDict& state, CudaStream stream, std::string_view prefix = {}) const;
  void load_state(const StateDict& state, CudaStream stream, std::string_view prefix = {});
  void save(const std::filesystem::path& file, CudaStream stream) const;
  void load(const std::filesystem::path& file, CudaStream stream);

 private:
  struct Forward;
  struct Backward;
  enum class Moves : std::uint8_t { pivot, running_statistics };

  void forward_with(const Forward& pass, DeviceSaved& saved, CudaStream stream);
  void backward_with(const Backward& pass, const DeviceSaved& saved, CudaStream stream);
  void infer_with(const Forward& pass, CudaStream stream);
  void infer_with(const Forward& pass, DeviceSaved& saved, CudaStream stream);
  void require_running_statistics() const;
  void reserve(DeviceSaved& saved) const;
  void save_pass(const Forward& pass, DeviceSaved& saved) const;
  void take_state(BatchNorm& host, CudaStream stream);
  void validate(const Forward& pass) const;
  void sum_over_group(comm::Pass kind, const Forward& pass, CudaStream stream);
  void finalize(bn::DeviceStatistics& statistics, DType dtype, Moves moves, CudaStream stream);
  void normalize(const Forward& pass, const double* mean, const double* scale, const double* shift,
                 CudaStream stream);

  std::int64_t channels_;
  DeviceCommunicator group_;
  BatchNormOptions options_;
  std::int64_t forwards_ = 0;
  bool knows_mean_ = false;  ///< the pivot follows from an earlier batch
  std::unique_ptr<bn::DeviceState> state_;
  std::unique_ptr<bn::DeviceWorkspace> working_;
};

}  // namespace syncbn
