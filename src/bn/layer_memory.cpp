// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstdint>
#include <string>

#include "syncbn/error.hpp"

#include "bn/layer.hpp"
#include "bn/phase_call.hpp"
#include "bn/validate.hpp"

namespace syncbn::bn {
namespace {

/// Requires that both arrays are given, or neither, and that they fit a layer that has them.
void require_pair(const ArrayView& one, const char* name, const ArrayView& other,
                  const char* other_name, bool has, std::int64_t channels, Device device) {
  if (one.empty() && other.empty()) {
    return;
  }
  if (one.empty() || other.empty()) {
    throw InvalidArgument(std::string("of ") + name + " and " + other_name +
                          ", one is the caller's. Give both, or neither.");
  }
  if (!has) {
    throw InvalidArgument(std::string("the layer has no ") + name + " and " + other_name +
                          " (see its options). Leave them out.");
  }
  require_array(name, one, channels, device);
  require_array(other_name, other, channels, device);
}

}  // namespace

void require_layer_memory(const LayerMemory& memory, std::int64_t channels,
                          const BatchNormOptions& options, Device device) try {
  const bool tracked = options.track_running_stats;
  require_pair(memory.weight, "weight", memory.bias, "bias", options.affine, channels, device);
  require_pair(memory.weight_grad, "weight_grad", memory.bias_grad, "bias_grad", options.affine,
               channels, device);
  require_pair(memory.running_mean, "running_mean", memory.running_var, "running_var", tracked,
               channels, device);
  if (memory.num_batches_tracked != nullptr && !tracked) {
    throw InvalidArgument("the layer has no num_batches_tracked (see its options). Leave it out.");
  }
  const std::size_t counted = memory.num_batches_tracked != nullptr ? sizeof(std::int64_t) : 0;
  const std::array all = {
      memory_of("weight", memory.weight),
      memory_of("bias", memory.bias),
      memory_of("weight_grad", memory.weight_grad),
      memory_of("bias_grad", memory.bias_grad),
      memory_of("running_mean", memory.running_mean),
      memory_of("running_var", memory.running_var),
      Memory{"num_batches_tracked", memory.num_batches_tracked, counted, alignof(std::int64_t)}};
  for (std::size_t k = 0; k < all.size(); ++k) {
    require_aligned(all[k]);
    require_all_held(device, {all[k]});
    for (std::size_t other = 0; other < k; ++other) {
      require_apart(all[k], {all[other]});
    }
  }
} catch (const InvalidArgument& error) {
  throw InvalidArgument("layer '" + options.name + "': " + error.what());
}

}  // namespace syncbn::bn
