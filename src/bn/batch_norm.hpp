// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "syncbn/batch_norm.hpp"

#include "bn/arguments.hpp"
#include "bn/layer.hpp"
#include "bn/place.hpp"

namespace syncbn {

namespace bn {
class DevicePlace;
class HostPlace;
}  // namespace bn

struct BatchNorm::Impl {
  Impl(std::int64_t channels, Communicator group, const BatchNormOptions& options,
       const LayerMemory& memory);
  Impl(std::int64_t channels, DeviceCommunicator group, const BatchNormOptions& options,
       const LayerMemory& memory);

  static Impl& of(BatchNorm& layer) { return *layer.impl_; }

  // These validate their arguments first.
  void forward(const bn::ForwardArguments& arguments, ForwardRecord& record);
  void infer(const bn::ForwardArguments& arguments, ForwardRecord* record);
  void backward(const bn::BackwardArguments& arguments, const ForwardRecord& record);

  bn::Layer layer;
  std::unique_ptr<bn::Place> place;
  bn::HostPlace* host = nullptr;      ///< the place, if it is the CPU
  bn::DevicePlace* device = nullptr;  ///< the place, if it is a CUDA device
};

}  // namespace syncbn
