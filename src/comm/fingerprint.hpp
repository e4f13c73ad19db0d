// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

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

/// What a fingerprint adds to a message: its four 16-bit pieces, then their squares.
inline constexpr std::size_t fingerprint_words = 8;
using FingerprintWords = std::array<double, fingerprint_words>;

FingerprintWords to_words(std::uint64_t fingerprint);

/// Whether the sum of `ranks` ranks' words is the sum of equal words. sum(h) = P h and
/// sum(h^2) = P h^2 together leave no room for unequal h: the sum of (h_r - h)^2 would be 0.
/// Exact for up to 2^21 ranks.
bool all_equal(std::span<const double, fingerprint_words> summed, std::uint64_t own, int ranks);

}  // namespace syncbn::comm
