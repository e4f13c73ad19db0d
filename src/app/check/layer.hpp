// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "syncbn/batch_norm.hpp"
#include "syncbn/device_communicator.hpp"

#include "app/check/batch.hpp"

namespace syncbn::app::check {

inline constexpr double eps = 1e-5;
inline constexpr double momentum = 0.1;

/// StepResults are what a step of training gives a rank.
struct StepResults {
  Values y, dx;                                   ///< results for its samples
  Values dresidual;                               ///< results for its samples, or empty
  std::vector<double> weight_grad, bias_grad;     ///< [C] summed over the case's scope
  std::vector<double> running_mean, running_var;  ///< [C]
};

/// A Layer is a layer that is checked, with its memory.
class Layer {
 public:
  virtual ~Layer() = default;

  /// Collective over the layer's ranks. Runs a forward and a backward with this rank's samples of
  /// the batch, and returns when both are done. If the case is replayed, the first call runs them,
  /// the second captures them in a graph, and from then on the graph is replayed with the batch in
  /// the same memory.
  virtual StepResults train(const Batch& batch) = 0;
};

/// Ranks says over which ranks a layer takes its statistics.
enum class Ranks : std::uint8_t { all, own };

/// A LayerMaker makes the case's layer, which is given this shard of its batches.
using LayerMaker = std::function<std::unique_ptr<Layer>(const Case& one, const Parameters&,
                                                        const Shard& shard, Ranks ranks)>;

LayerMaker layers_on_host(const Communicator& world);

/// Makes layers and their tensors on this rank's current device. `own` is this rank by itself.
/// Cases must be those of a Selection for devices.
LayerMaker layers_on_device(const DeviceCommunicator& all, const DeviceCommunicator& own);

BatchNormOptions options_of(const Case& one);

}  // namespace syncbn::app::check
