// SPDX-License-Identifier: Apache-2.0
#include "comm/fingerprint.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/scrambled.hpp"

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
  return scrambled(state_);
}

FingerprintWords to_words(std::uint64_t fingerprint) {
  FingerprintWords words{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = fingerprint_word(fingerprint, i);
  }
  return words;
}

}  // namespace syncbn::comm
