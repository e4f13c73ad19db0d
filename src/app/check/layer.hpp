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

/// What a step of training gives a rank.
struct StepResults {
  Values y, dx;                                   ///< of its samples
  Values dresidual;                               ///< likewise; empty without a residual
  std::vector<double> weight_grad, bias_grad;     ///< [C] of the case's scope
  std::vector<double> running_mean, running_var;  ///< [C]
};

/// A layer that is checked, with its memory.
class Layer {
 public:
  virtual ~Layer() = default;

  /// Collective over the layer's ranks. A forward and a backward with this rank's samples of the
  /// batch; to its end.
  virtual StepResults train(const Batch& batch) = 0;
};

/// Over which ranks a layer takes its statistics.
enum class Ranks : std::uint8_t { all, own };

/// Makes the case's layer, which is to be given this shard of its batches.
using LayerMaker = std::function<std::unique_ptr<Layer>(const Case& one, const Parameters&,
                                                        const Shard& shard, Ranks ranks)>;

LayerMaker layers_on_host(const Communicator& world);

/// On this rank's current device, their tensors too. `own` is this rank by itself. Cases are those
/// of a Selection for devices.
LayerMaker layers_on_device(const DeviceCommunicator& all, const DeviceCommunicator& own);

BatchNormOptions options_of(const Case& one);

}  // namespace syncbn::app::check
