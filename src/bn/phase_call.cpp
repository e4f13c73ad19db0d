// SPDX-License-Identifier: Apache-2.0
#include "bn/phase_call.hpp"

#include <string>

#include "syncbn/error.hpp"

#include "cuda/device.hpp"

namespace syncbn::bn {

void require_all_held(Device device, std::initializer_list<Memory> all) {
  if (device.is_cpu()) {
    return;
  }
  cuda::require_cuda();
  for (const Memory& memory : all) {
    if (memory.bytes > 0) {
      require_held(memory.name, memory.data, device);
    }
  }
}

channels::ChannelRange require_sums_about(std::span<const double> sums,
                                          std::span<const double> pivot) {
  const std::size_t channels = pivot.size();
  if (sums.size() != 2 * channels + 1) {
    throw InvalidArgument("sums has " + std::to_string(sums.size()) + " values (a pivot of " +
                          std::to_string(channels) + " channels needs " +
                          std::to_string(2 * channels + 1) + ")");
  }
  require_aligned(memory_of("sums", sums));
  require_aligned(memory_of("pivot", pivot));
  return {0, static_cast<std::int64_t>(channels)};
}

Memory memory_of(std::string_view name, const ConstArrayView& array) {
  const std::size_t bytes = size_of(array.dtype());
  return {name, array.data(), static_cast<std::size_t>(array.size()) * bytes, bytes};
}

}  // namespace syncbn::bn
