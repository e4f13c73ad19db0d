// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "syncbn/batch_norm.hpp"
#include "syncbn/device_communicator.hpp"
#include "syncbn/export.h"

namespace syncbn {

namespace comm {
enum class Operation : std::uint8_t;
}
namespace bn {
struct DeviceState;
struct DeviceStatistics;
struct DeviceWorkspace;
}  // namespace bn

/// A DeviceSaved holds what a backward needs from its forward, besides the tensors, in device
/// memory. Each forward that is waiting for its backward needs one of its own. One that is reused
/// from step to step does not allocate.
class SYNCBN_API DeviceSaved {
 public:
  DeviceSaved();
  DeviceSaved(DeviceSaved&&) noexcept;
  DeviceSaved& operator=(DeviceSaved&&) noexcept;
  ~DeviceSaved();

  /// Local. Return the statistics of the group's batch: [C] doubles in device memory, which this
  /// object owns; null before the first forward.
  const double* mean() const;
  const double* var() const;  ///< biased
  const double* invstd() const;

 private:
  friend class DeviceBatchNorm;
  std::unique_ptr<bn::DeviceStatistics> statistics_;
  Saved forward_;  ///< the forward's description; its statistics are empty
};

/// A DeviceBatchNorm is a BatchNorm on a CUDA device: tensors, parameters and running statistics
/// are in device memory, and every call puts its work on the caller's stream and returns.
///
/// `forward` and `backward` are collective over the group. Each has one sum over the ranks, of 2C +
/// 1 doubles and, over NCCL or a custom group, 8 of the exchange's. Unless stated below, a
/// call waits for the device only if the group's sums do. After the first steps no pass allocates,
/// so that from then on passes over an NCCL communicator can be captured in a CUDA graph. The
/// group's device must be current in every call. Memory that is passed must not be used otherwise
/// until the stream is done with it.
///
/// Sums are about a pivot near the mean, as on the CPU, but their terms are floats (f64: doubles).
/// Unlike on the CPU, the layer cannot check whether the pivot was near the mean, since the host
/// would have to wait for the sums. So the first forward after a start or a load_state takes its
/// sums twice, the second time about the mean that the first gave. Later pivots are within a
/// standard deviation of the previous batch's mean: if a channel's mean moves by k standard
/// deviations from one step to the next, the relative error of that step's variance is at most 7e-7
/// (1 + k)^2 (f64: the rounding of double). After a first batch in which no rank has an element,
/// the mean is still unknown, and the next forward's pivot is 0.
///
/// With Reproducibility::exact sums are as exact as on the CPU, and the same for any number of
/// ranks and over every kind of group. Results have the bits of BatchNorm with Backend::cpu on a
/// CPU with fused multiplication and addition; except that a NaN may be another NaN, and that near
/// the ends of float's range the CPU computes in double. Which channels' sums must be taken again
/// is found out on the device, so all that this needs is put on the stream in every step: a forward
/// has five sums over the ranks, a backward three. The first, third and fifth have 4C + 11 doubles,
/// in a backward C more, for f64 4C more; the others have 6C doubles for one rank, 12C for 8, 26C
/// for 1024. x is read again only for channels that need it.
///
/// The communicator decides when ranks that disagree, or that miss one, are told, and of what. A
/// call that throws leaves parameters and running statistics as they were.
class SYNCBN_API DeviceBatchNorm {
 public:
  /// Local. Makes a layer as BatchNorm's constructor does, and waits for the device. `backend` and
  /// `channel_blocks` of the options mean nothing here, and compare_parameters compares gamma and
  /// beta of all channels each time. Throws NotConfigured in a build without a device.
  DeviceBatchNorm(std::int64_t channels, DeviceCommunicator group, BatchNormOptions options = {});
  DeviceBatchNorm(DeviceBatchNorm&&) noexcept;
  DeviceBatchNorm& operator=(DeviceBatchNorm&&) noexcept;
  ~DeviceBatchNorm();

  std::int64_t channels() const { return channels_; }
  const BatchNormOptions& options() const { return options_; }
  const DeviceCommunicator& communicator() const { return group_; }

  /// Collective. Does what BatchNorm::forward does, on `stream`. `position_weights` is null or [N,
  /// S] in device memory, finite and at least 0. The host does not check that; otherwise results
  /// are NaN or nonsense.
  void forward(ConstTensorView x, TensorView y, DeviceSaved& saved, CudaStream stream,
               const float* position_weights = nullptr);
  void forward(ConstTensorView x, ConstTensorView residual, TensorView y, DeviceSaved& saved,
               CudaStream stream, const float* position_weights = nullptr);

  /// Collective. Does what BatchNorm::backward does, on `stream`.
  void backward(const DeviceSaved& saved, ConstTensorView x, ConstTensorView dy, TensorView dx,
                CudaStream stream, const float* position_weights = nullptr);
  void backward(const DeviceSaved& saved, ConstTensorView x, ConstTensorView y, ConstTensorView dy,
                TensorView dx, TensorView dresidual, CudaStream stream,
                const float* position_weights = nullptr);

  /// Collective. Does what BatchNorm::forward_in_place does, on `stream`, but does not check gamma,
  /// which is in device memory: a channel whose gamma is 0, or below the smallest float, gets no
  /// gradient of gamma.
  void forward_in_place(TensorView x, DeviceSaved& saved, CudaStream stream,
                        const float* position_weights = nullptr);
  /// Collective. Does what BatchNorm::backward_in_place does, on `stream`.
  void backward_in_place(const DeviceSaved& saved, ConstTensorView y, ConstTensorView dy,
                         TensorView dx, CudaStream stream, const float* position_weights = nullptr);

  /// Local. Writes y as `forward` does, with the running statistics. Throws NotConfigured without
  /// track_running_stats.
  void infer(ConstTensorView x, TensorView y, CudaStream stream,
             const float* position_weights = nullptr);
  void infer(ConstTensorView x, ConstTensorView residual, TensorView y, CudaStream stream,
             const float* position_weights = nullptr);
  /// Local. Does the same and fills `saved` for a backward with frozen statistics, as
  /// BatchNorm::infer does.
  void infer(ConstTensorView x, TensorView y, DeviceSaved& saved, CudaStream stream,
             const float* position_weights = nullptr);
  void infer(ConstTensorView x, ConstTensorView residual, TensorView y, DeviceSaved& saved,
             CudaStream stream, const float* position_weights = nullptr);

  /// Local. Return the layer's arrays of [C] doubles in device memory, null where the options left
  /// them out. Read and write them by work on the streams that the layer's calls are given. They
  /// stay valid as long as the layer.
  double* weight();
  double* bias();
  double* weight_grad();
  double* bias_grad();
  double* running_mean();
  double* running_var();
  /// Local. Returns the address of one number in device memory, null without track_running_stats.
  std::int64_t* num_batches_tracked();

  void zero_grad(CudaStream stream);

  /// Local. Do what BatchNorm's functions of these names do, and wait for the stream.
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
  void sum_over_group(comm::Operation kind, const Forward& pass, CudaStream stream);
  void finalize(bn::DeviceStatistics& statistics, DType dtype, Moves moves, CudaStream stream);
  void normalize(const Forward& pass, const double* mean, const double* scale, const double* shift,
                 CudaStream stream);

  std::int64_t channels_;
  DeviceCommunicator group_;
  BatchNormOptions options_;
  std::int64_t forwards_ = 0;
  bool knows_mean_ = false;  ///< whether the pivot follows from an earlier batch
  std::unique_ptr<bn::DeviceState> state_;
  std::unique_ptr<bn::DeviceWorkspace> working_;
};

}  // namespace syncbn
