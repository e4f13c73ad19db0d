// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "syncbn/tensor_view.hpp"

namespace syncbn::app::bench {

/// A layer's input on one rank.
struct LayerShape {
  std::string text;  ///< "32x64x112x112"
  Shape shape;
  int layers = 1;  ///< how many layers of the network have it
};

/// `text` is "resnet50" or a list like "32x64x56x56,128x100": samples, channels, and spatial sizes
/// if any. `batch` is for the networks only. Throws UsageError.
std::vector<LayerShape> parse_shapes(const std::string& text, std::int64_t batch);

/// Whether `text` names a network, whose samples --batch then gives.
bool is_network(const std::string& text);

}  // namespace syncbn::app::bench
