// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "bn/host/backward.hpp"
#include "bn/host/forward.hpp"
#include "bn/host/layer.hpp"
#include "bn/place.hpp"

namespace syncbn::bn {

/// The HostPlace of a layer is the CPU's memory.
class HostPlace final : public Place {
 public:
  /// `allocate` is empty, or the caller's.
  HostPlace(Layer& layer, Communicator group, Allocate allocate);

  const Communicator& communicator() const { return host.communicator; }

  Device device() const override { return Device::cpu(); }
  std::shared_ptr<void> allocate(std::size_t bytes) const override;
  void upload(std::span<const std::byte> from, void* to, CudaStream stream) const override;
  void download(const void* from, std::span<std::byte> to, CudaStream stream) const override;
  void clear(void* memory, std::size_t bytes, CudaStream stream) const override;
  void wait(CudaStream) const override {}

  void forward(const ForwardArguments& arguments, ForwardRecord::Impl& record) override;
  void infer_with_batch(const ForwardArguments& arguments) override;
  void infer_with_running(const ForwardArguments& arguments, ForwardRecord::Impl* record) override;
  void backward(const BackwardArguments& arguments, const ForwardRecord::Impl& record) override;

  void require_invertible() const override;
  void forget(CudaStream stream) override;
  void refused(const std::string& why) noexcept override;
  std::int64_t pivot_retries() const override { return host.pivot_retries; }

  HostLayer host;
  // A pass that is taken together with those of other layers is here during the call, so that no
  // call allocates.
  std::optional<ForwardPass> forward_pass;
  std::optional<BackwardPass> backward_pass;

 private:
  Allocate allocate_;
};

}  // namespace syncbn::bn
