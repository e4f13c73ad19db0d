// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "syncbn/batch_norm.hpp"
#include "syncbn/communicator.hpp"

#include "app/bench/layer_times.hpp"
#include "app/device_world.hpp"

namespace syncbn::app::bench {

/// TensorSet is what a layer works on.
struct TensorSet {
  TensorView x, y, dy, dx;
};

using Body = std::function<void(const TensorSet&)>;

/// A MemoryTask does with memory what a kernel is compared with.
struct MemoryTask {
  Phase phase;
  Body body;
};

/// A Place is where a layer is timed: its tensors, its clock and its group.
class Place {
 public:
  virtual ~Place() = default;

  /// Returns the next of several sets with the same values. There are so many, up to 256, that each
  /// call finds its tensors in memory rather than in a cache, unless they are tiny.
  virtual const TensorSet& next() = 0;
  /// Returns how long the body takes, with the next sets. Collective if the body is, and on
  /// devices. [s]
  virtual double time(const Body& body) = 0;

  /// Makes a layer over all ranks.
  virtual BatchNorm layer_of_all(std::int64_t channels, const BatchNormOptions& options) const = 0;
  /// Makes a layer of this rank alone.
  virtual BatchNorm layer_of_one(std::int64_t channels, const BatchNormOptions& options) const = 0;
  /// Returns zeros in the place's memory, which stay as long as the place.
  virtual std::span<double> doubles(std::size_t count) = 0;
  /// Collective. Sums 2C + 1 doubles over all ranks, as many as the sums of a forward are.
  virtual void exchange() = 0;

  virtual CudaStream stream() const = 0;
  virtual std::vector<MemoryTask> memory_tasks() = 0;
};

std::unique_ptr<Place> place_on_host(const LayerShape& layer, const BenchOptions& options,
                                     const Communicator& world);

/// A phase is put on a device's stream this many times for one measurement. The device is kept busy
/// while the host does so, so that the host's time counts only if it exceeds the device's.
inline constexpr int laps = 10;

/// Times are those of the device's clock.
std::unique_ptr<Place> place_on_device(const LayerShape& layer, const BenchOptions& options,
                                       const Communicator& world, const DeviceWorld& devices);

}  // namespace syncbn::app::bench
