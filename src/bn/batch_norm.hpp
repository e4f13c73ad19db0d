// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/backward.hpp"
#include "bn/forward.hpp"
#include "bn/layer.hpp"

namespace syncbn {

struct BatchNorm::Impl {
  static Impl& of(BatchNorm& layer) { return *layer.impl_; }

  bn::Layer layer;
  // The last passes that were taken together with those of other layers.
  std::optional<bn::ForwardPass> forward = std::nullopt;
  std::optional<bn::BackwardPass> backward = std::nullopt;
};

}  // namespace syncbn
