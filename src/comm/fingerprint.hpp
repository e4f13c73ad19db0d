// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/scrambled.hpp"

#include "comm/fingerprint_words.hpp"

namespace syncbn::comm {

/// A 64-bit hash built up piece by piece: eight bytes at a time an xor, a product with
/// splitmix64's constant and a shift, in the end its finalizer. Not cryptographic; the same on
/// every machine of one byte order.
class Fingerprint {
 public:
  Fingerprint& add(std::span<const std::byte> bytes);
  Fingerprint& add(std::uint64_t value) {
    state_ = mixed(state_, value);
    return *this;
  }
  std::uint64_t value() const { return scrambled(state_); }

 private:
  // The shift brings high bits down again, which the product only moves up.
  static std::uint64_t mixed(std::uint64_t state, std::uint64_t value) {
    const std::uint64_t product = (state ^ value) * 0x9e3779b97f4a7c15;
    return product ^ (product >> 32);
  }

  std::uint64_t state_ = 0xcbf29ce484222325;
};

/// What a fingerprint adds to a message.
using FingerprintWords = std::array<double, fingerprint_words>;

FingerprintWords to_words(std::uint64_t fingerprint);

}  // namespace syncbn::comm
