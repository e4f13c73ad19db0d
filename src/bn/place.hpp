// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "syncbn/device.hpp"

#include "bn/arguments.hpp"
#include "bn/record.hpp"

namespace syncbn::bn {

/// A Place is where a layer's memory is and what computes its passes: the CPU, or a CUDA device.
/// It belongs to one layer.
class Place {
 public:
  virtual ~Place() = default;
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  // Memory. Work is put on the stream, which means nothing on the CPU.

  virtual Device device() const = 0;
  virtual std::shared_ptr<void> allocate(std::size_t bytes) const = 0;
  virtual void upload(std::span<const std::byte> from, void* to, CudaStream stream) const = 0;
  virtual void download(const void* from, std::span<std::byte> to, CudaStream stream) const = 0;
  virtual void clear(void* memory, std::size_t bytes, CudaStream stream) const = 0;
  virtual void wait(CudaStream stream) const = 0;

  // Passes. Arguments have been validated, except for the values of weights.

  /// Collective.
  virtual void forward(const ForwardArguments& arguments, ForwardRecord::Impl& record) = 0;
  /// Collective. Normalizes with the group's statistics, which are those of no training step.
  virtual void infer_with_batch(const ForwardArguments& arguments) = 0;
  /// Local. Normalizes with the running statistics. `record` is null, or filled.
  virtual void infer_with_running(const ForwardArguments& arguments,
                                  ForwardRecord::Impl* record) = 0;
  /// Collective, unless the layer's backward_is_local.
  virtual void backward(const BackwardArguments& arguments, const ForwardRecord::Impl& record) = 0;

  /// Throws InvalidArgument unless the input of a forward can be recovered from its output, as far
  /// as the place can look at gamma.
  virtual void require_invertible() const = 0;
  /// Forgets what passes have learnt of earlier batches.
  virtual void forget(CudaStream stream) = 0;
  /// Tells ranks that wait for this one that it has refused a call.
  virtual void refused(const std::string& why) noexcept = 0;
  virtual std::int64_t pivot_retries() const = 0;

 protected:
  Place() = default;
};

}  // namespace syncbn::bn
