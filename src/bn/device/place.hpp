// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "syncbn/device_communicator.hpp"

#include "bn/device/workspace.hpp"
#include "bn/layer.hpp"
#include "bn/place.hpp"
#include "comm/group/descriptor.hpp"

namespace syncbn::bn {

/// The DevicePlace of a layer is the memory of a CUDA device. Its passes put the steps of
/// host/forward.cpp and host/backward.cpp, where the formulas are, on the caller's stream.
class DevicePlace final : public Place {
 public:
  /// `allocate` is empty, or the caller's.
  DevicePlace(Layer& layer, DeviceCommunicator group, Allocate allocate);

  const DeviceCommunicator& communicator() const { return group_; }

  Device device() const override { return group_.device(); }
  std::shared_ptr<void> allocate(std::size_t bytes) const override;
  void upload(std::span<const std::byte> from, void* to, CudaStream stream) const override;
  void download(const void* from, std::span<std::byte> to, CudaStream stream) const override;
  void clear(void* memory, std::size_t bytes, CudaStream stream) const override;
  void wait(CudaStream stream) const override;

  void forward(const ForwardArguments& arguments, ForwardRecord::Impl& record) override;
  void infer_with_batch(const ForwardArguments& arguments) override;
  void infer_with_running(const ForwardArguments& arguments, ForwardRecord::Impl* record) override;
  void backward(const BackwardArguments& arguments, const ForwardRecord::Impl& record) override;

  void require_invertible() const override;
  void forget(CudaStream stream) override;
  void refused(const std::string&) noexcept override {}  // ranks that wait find out by the deadline
  std::int64_t pivot_retries() const override { return 0; }

 private:
  /// Takes the group's statistics of a batch, and chooses the next pivot.
  void take_statistics(const comm::Operation& operation, const ForwardArguments& arguments,
                       const channels::StatisticsArrays& out);
  void sum_over_group(const comm::Operation& operation, const ForwardArguments& arguments);
  enum class Moves : std::uint8_t { pivot, running_statistics };
  void finalize(const channels::StatisticsArrays& out, DType dtype, Moves moves, CudaStream stream);
  void normalize(const ForwardArguments& arguments, const channels::StatisticsArrays& statistics);
  /// Returns whether the parameters' gradients take this rank's sums where those of the group are
  /// others.
  bool keeps_own_sums(const ForwardRecord::Impl& record) const;
  /// Takes this rank's sums of a backward, and the group's.
  void sum_over_group(const BackwardArguments& arguments, const ForwardRecord::Impl& record,
                      const kernels::Upstream& upstream);

  Layer& layer_;
  DeviceCommunicator group_;
  Allocate allocate_;
  DeviceWorkspace working_;
};

}  // namespace syncbn::bn
