// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace syncbn::app::bench {

/// What is timed, each by itself.
enum class Phase : std::uint8_t {
  copy,            ///< x copied to y by all threads, by the C library; on devices by CUDA
  streaming_copy,  ///< the same with stores past the cache; not on devices
  read,            ///< x read by all threads, and nothing else; not on devices
  sums,            ///< forward_sums
  exchange,        ///< an all-reduce of a forward's message
  normalize,       ///< normalize
  forward,         ///< the layer's, over the ranks
  backward_sums,   ///< backward_sums
  input_gradient,  ///< input_gradient
  backward,        ///< likewise
  local_forward,   ///< the same layer over this rank alone
  local_backward,
  exact_forward,  ///< the same layer over the ranks with Reproducibility::exact
  exact_backward,
  onednn_forward,  ///< oneDNN's, over this rank alone
  onednn_backward,
};

std::string_view to_string(Phase phase);

/// How often the phase reads and writes a tensor of x's size; 0 for the exchange.
int passes(Phase phase);

/// What the layer is compared with.
enum class Rival : std::uint8_t { onednn, local, exact };

}  // namespace syncbn::app::bench
