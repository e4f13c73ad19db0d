// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "syncbn/batch_norm.hpp"

#include "bn/host/backward.hpp"
#include "bn/host/forward.hpp"
#include "bn/layer.hpp"

namespace syncbn {

struct BatchNorm::Impl {
  Impl(std::int64_t channels, Communicator group, BatchNormOptions options)
      : layer(channels, std::move(group), std::move(options)) {}

  static Impl& of(BatchNorm& layer) { return *layer.impl_; }

  bn::Layer layer;
  // A pass that is taken together with those of other layers is here during the call, so that no
  // call allocates.
  std::optional<bn::ForwardPass> forward;
  std::optional<bn::BackwardPass> backward;
};

}  // namespace syncbn
