// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "syncbn/batch_norm.hpp"

#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "support/tensor.hpp"

namespace syncbn::test {

/// Where a test has its layers: on the CPU, or on the device that the build has, which may be
/// emulated.
enum class PlaceKind { cpu, device };

inline std::vector<PlaceKind> places() {
  return {PlaceKind::cpu, PlaceKind::device};
}
inline std::string name_of(PlaceKind kind) {
  return kind == PlaceKind::cpu ? "cpu" : "device";
}
/// Why this build or machine has no such place; "" if it has.
inline std::string why_not(PlaceKind kind) {
  return kind == PlaceKind::device && cuda::device_count() == 0 ? "SKIPPED: no CUDA device" : "";
}

class PlaceOfTest {
 public:
  /// Layers of a device sum over the ranks' CPUs.
  PlaceOfTest(PlaceKind kind, Communicator ranks) : ranks_(std::move(ranks)) {
    if (kind == PlaceKind::device) {
      device_.emplace(DeviceCommunicator::staged(ranks_));
    }
  }

  Device device() const { return device_ ? device_->device() : Device::cpu(); }

  BatchNorm layer(std::int64_t channels, const BatchNormOptions& options = {},
                  const LayerMemory& memory = {}) const {
    return device_ ? BatchNorm(channels, *device_, options, memory)
                   : BatchNorm(channels, ranks_, options, memory);
  }

  /// Collective. Sums values in the place's memory over the ranks.
  void all_reduce(std::span<double> values) const {
    if (device_) {
      device_->all_reduce(values.data(), values.size(), nullptr);
    } else {
      ranks_.all_reduce(values);
    }
  }

  std::shared_ptr<void> allocate(std::size_t bytes) const {
    if (device_) {
      return allocate_device_memory(bytes);
    }
    return std::shared_ptr<void>(std::aligned_alloc(256, (bytes + 255) / 256 * 256), std::free);
  }

  void upload(std::span<const std::byte> from, void* to) const {
    if (device_) {
      cuda::upload(from, to, nullptr);
    } else {
      std::ranges::copy(from, static_cast<std::byte*>(to));
    }
  }
  void download(const void* from, std::span<std::byte> to) const {
    if (device_) {
      cuda::download(from, to, nullptr);
      cuda::StreamView(nullptr).synchronize();
    } else {
      std::copy_n(static_cast<const std::byte*>(from), to.size(), to.begin());
    }
  }
  std::vector<double> fetch(std::span<const double> from) const {
    std::vector<double> values(from.size());
    download(from.data(), std::as_writable_bytes(std::span(values)));
    return values;
  }

 private:
  Communicator ranks_;
  std::optional<DeviceCommunicator> device_;
};

/// A tensor in the memory of a place.
class PlacedTensor {
 public:
  PlacedTensor(const PlaceOfTest& place, const Tensor& tensor)
      : place_(place), tensor_(tensor), memory_(place.allocate(bytes())) {
    place.upload({static_cast<const std::byte*>(tensor.view().data()), bytes()}, memory_.get());
  }

  TensorView view() const {
    return {memory_.get(), tensor_.dtype(), tensor_.shape(), tensor_.layout(), place_.device()};
  }
  Tensor fetch() const {
    Tensor result = tensor_;
    place_.download(memory_.get(), {static_cast<std::byte*>(result.view().data()), bytes()});
    return result;
  }

 private:
  std::size_t bytes() const {
    return static_cast<std::size_t>(tensor_.shape().size()) * size_of(tensor_.dtype());
  }

  const PlaceOfTest& place_;
  Tensor tensor_;
  std::shared_ptr<void> memory_;
};

/// Doubles in the memory of a place.
class PlacedDoubles {
 public:
  PlacedDoubles(const PlaceOfTest& place, std::size_t count, double value = 0)
      : place_(place), count_(count), memory_(place.allocate(count * sizeof(double))) {
    const std::vector<double> values(count, value);
    place.upload(std::as_bytes(std::span(values)), memory_.get());
  }

  operator std::span<double>() const { return get(); }
  operator std::span<const double>() const { return get(); }
  std::span<double> get() const { return {static_cast<double*>(memory_.get()), count_}; }
  std::vector<double> fetch() const { return place_.fetch(get()); }

 private:
  const PlaceOfTest& place_;
  std::size_t count_;
  std::shared_ptr<void> memory_;
};

}  // namespace syncbn::test
