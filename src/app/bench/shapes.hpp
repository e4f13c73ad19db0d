// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "syncbn/tensor_view.hpp"

namespace syncbn::app::bench {

/// A LayerShape describes a layer's input on one rank.
struct LayerShape {
  std::string text;  ///< "32x64x112x112"
  Shape shape;
  int layers = 1;  ///< number of the network's layers that have it
};

/// Reads the shapes that `text` gives: "resnet50", or a list like "32x64x56x56,128x100" of samples,
/// channels, and spatial sizes if any. `batch` is the samples of a network's layers. Throws
/// UsageError.
std::vector<LayerShape> parse_shapes(const std::string& text, std::int64_t batch);

/// Returns whether `text` names a network; then --batch gives its samples.
bool is_network(const std::string& text);

}  // namespace syncbn::app::bench
