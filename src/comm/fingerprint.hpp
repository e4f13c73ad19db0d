// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/scrambled.hpp"

#include "comm/fingerprint_words.hpp"

namespace syncbn::comm {

/// A 64-bit hash built up piece by piece: eight bytes at a time two products with
/// splitmix64's constants, and shifts, in the end its finalizer. Not cryptographic; the same on
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
  // A product moves differences up and leaves that of the highest bit alone, so that those of a few
  // signs could cancel each other: the shifts bring them down, before the first product and after
  // the second. The first does not wait for the state.
  static std::uint64_t mixed(std::uint64_t state, std::uint64_t value) {
    const std::uint64_t spread = (value ^ (value >> 32)) * 0xbf58476d1ce4e5b9;
    const std::uint64_t product = (state ^ spread) * 0x9e3779b97f4a7c15;
    return product ^ (product >> 32);
  }

  std::uint64_t state_ = 0xcbf29ce484222325;
};

/// What a fingerprint adds to a message.
using FingerprintWords = std::array<double, fingerprint_words>;

FingerprintWords to_words(std::uint64_t fingerprint);

}  // namespace syncbn::comm
