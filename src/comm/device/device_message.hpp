// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

#include "comm/group/descriptor.hpp"
#include "comm/group/fingerprint_words.hpp"
#include "cuda/device_buffer.hpp"

namespace syncbn::comm {

/// The place among a descriptor's facts of the one that may lie in device memory.
inline constexpr std::size_t fact_on_device = most_facts - 1;

/// Refers to the values of one message in device memory.
struct DeviceMessageView {
  double* data = nullptr;
  std::size_t length = 0;
  /// Whether the exchange may use the `fingerprint_words` doubles behind the values. If so, values
  /// and fingerprint travel in one sum, else in two.
  bool has_room = false;
  /// Null, or a fingerprint in device memory of state there that the ranks must share. It is read
  /// when the stream gets to the message, and compared with the other ranks' as the descriptor's
  /// fact number `fact_on_device`, which is left 0.
  const std::uint64_t* state = nullptr;
};

/// Owns device memory for messages of up to a given length, with the room behind them that lets
/// their fingerprint travel in the same sum.
class DeviceMessage {
 public:
  /// Allocates on the current device.
  explicit DeviceMessage(std::size_t longest)
      : longest_(longest), buffer_((longest + fingerprint_words) * sizeof(double)) {}

  /// Returns [longest] doubles.
  double* data() const { return buffer_.as<double>(); }
  syncbn::cuda::DeviceBuffer& buffer() { return buffer_; }

  /// Returns the message that consists of the first `length` values.
  DeviceMessageView first(std::size_t length, const std::uint64_t* state = nullptr) const {
    assert(length <= longest_);
    return {data(), length, true, state};
  }

 private:
  std::size_t longest_;
  syncbn::cuda::DeviceBuffer buffer_;
};

}  // namespace syncbn::comm
