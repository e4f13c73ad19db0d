// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/internal_api.hpp"
#include "core/scrambled.hpp"

#include "comm/group/fingerprint_words.hpp"

namespace syncbn::comm {

/// Computes a 64-bit hash of what is added to it. Each eight bytes take two products with
/// splitmix64's constants, and shifts; `value` applies splitmix64's finalizer. The hash is not
/// cryptographic, and the same on all machines of one byte order.
class Fingerprint {
 public:
  SYNCBN_INTERNAL_API Fingerprint& add(std::span<const std::byte> bytes);
  Fingerprint& add(std::uint64_t value) {
    state_ = mixed(state_, value);
    return *this;
  }
  std::uint64_t value() const { return scrambled(state_); }

 private:
  // A product moves differences to higher bits only, and one in the highest bit stays there: a few
  // numbers that differ in their signs could cancel each other. The shifts, before the first
  // product and after the second, bring differences down. The first product does not depend on the
  // state, so that the processor need not wait for the step before.
  static std::uint64_t mixed(std::uint64_t state, std::uint64_t value) {
    const std::uint64_t spread = (value ^ (value >> 32)) * 0xbf58476d1ce4e5b9;
    const std::uint64_t product = (state ^ spread) * 0x9e3779b97f4a7c15;
    return product ^ (product >> 32);
  }

  std::uint64_t state_ = 0xcbf29ce484222325;
};

/// The doubles by which a message carries its fingerprint: see fingerprint_words.hpp.
using FingerprintWords = std::array<double, fingerprint_words>;

FingerprintWords to_words(std::uint64_t fingerprint);

}  // namespace syncbn::comm
