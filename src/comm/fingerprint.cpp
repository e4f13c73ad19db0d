// SPDX-License-Identifier: Apache-2.0
#include "comm/fingerprint.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace syncbn::comm {

Fingerprint& Fingerprint::add(std::uint64_t value) {
  // The rotation brings high bits down again, which the product only moves up.
  state_ = (std::rotl(state_, 23) ^ value) * 0x100000001b3;
  return *this;
}

Fingerprint& Fingerprint::add(std::span<const std::byte> bytes) {
  add(bytes.size());
  while (!bytes.empty()) {
    std::uint64_t word = 0;
    const std::size_t taken = std::min(bytes.size(), sizeof word);
    std::memcpy(&word, bytes.data(), taken);
    add(word);
    bytes = bytes.subspan(taken);
  }
  return *this;
}

std::uint64_t Fingerprint::value() const {
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

FingerprintWords to_words(std::uint64_t fingerprint) {
  FingerprintWords words{};
  for (std::size_t i = 0; i < 4; ++i) {
    const auto piece = static_cast<double>((fingerprint >> (16 * i)) & 0xffff);
    words[i] = piece;
    words[4 + i] = piece * piece;
  }
  return words;
}

bool all_equal(std::span<const double, fingerprint_words> summed, std::uint64_t own, int ranks) {
  const FingerprintWords words = to_words(own);
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (summed[i] != ranks * words[i]) {
      return false;
    }
  }
  return true;
}

}  // namespace syncbn::comm
