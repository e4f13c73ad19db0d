// SPDX-License-Identifier: Apache-2.0
#include "comm/group/fingerprint.hpp"

#include <algorithm>
#include <cstring>

namespace syncbn::comm {
namespace {

std::uint64_t word_at(const std::byte* bytes) {
  std::uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

Fingerprint& Fingerprint::add(std::span<const std::byte> bytes) {
  add(bytes.size());
  constexpr std::size_t word = sizeof(std::uint64_t);
  // A product waits for the one before it in its chain, so four chains take the time of one.
  std::array<std::uint64_t, 4> chains{1, 2, 3, 4};
  if (bytes.size() >= chains.size() * word) {
    while (bytes.size() >= chains.size() * word) {
      for (std::size_t i = 0; i < chains.size(); ++i) {
        chains[i] = mixed(chains[i], word_at(&bytes[i * word]));
      }
      bytes = bytes.subspan(chains.size() * word);
    }
    for (const std::uint64_t chain : chains) {
      add(chain);
    }
  }
  for (; bytes.size() >= word; bytes = bytes.subspan(word)) {
    add(word_at(bytes.data()));
  }
  if (!bytes.empty()) {
    std::uint64_t rest = 0;
    std::memcpy(&rest, bytes.data(), bytes.size());
    add(rest);
  }
  return *this;
}

FingerprintWords to_words(std::uint64_t fingerprint) {
  FingerprintWords words{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = fingerprint_word(fingerprint, i);
  }
  return words;
}

}  // namespace syncbn::comm
