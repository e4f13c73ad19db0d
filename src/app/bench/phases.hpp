// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace syncbn::app::bench {

/// A Phase is something that is timed by itself.
enum class Phase : std::uint8_t {
  copy,            ///< x copied to y by all threads, by the C library; on devices by CUDA
  streaming_copy,  ///< x copied to y with stores past the cache; not on devices
  read,            ///< x read by all threads, and nothing else; not on devices
  sums,            ///< forward_sums
  exchange,        ///< an all-reduce of a forward's message
  normalize,       ///< normalize
  forward,         ///< the layer's forward, over the ranks
  backward_sums,   ///< backward_sums
  input_gradient,  ///< input_gradient
  backward,        ///< the layer's backward, over the ranks
  local_forward,   ///< the same layer over this rank alone
  local_backward,
  exact_forward,  ///< the same layer over the ranks with Reproducibility::exact
  exact_backward,
  onednn_forward,  ///< oneDNN's layer, over this rank alone
  onednn_backward,
};

std::string_view to_string(Phase phase);

/// Returns how often the phase reads or writes a tensor of x's size; 0 for the exchange.
int passes(Phase phase);

/// A Rival is what the layer is compared with.
enum class Rival : std::uint8_t { onednn, local, exact };

}  // namespace syncbn::app::bench
