// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/fingerprint_words.hpp"

namespace syncbn::comm {

/// A 64-bit hash built up piece by piece: eight bytes at a time a rotation, an xor and the
/// multiplication of FNV-1a, then the finalizer of splitmix64. Not cryptographic; the same on every
/// machine of one byte order.
class Fingerprint {
 public:
  Fingerprint& add(std::span<const std::byte> bytes);
  Fingerprint& add(std::uint64_t value);
  std::uint64_t value() const;

 private:
  std::uint64_t state_ = 0xcbf29ce484222325;
};

/// What a fingerprint adds to a message.
using FingerprintWords = std::array<double, fingerprint_words>;

FingerprintWords to_words(std::uint64_t fingerprint);

}  // namespace syncbn::comm
