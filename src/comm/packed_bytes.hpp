// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace syncbn::comm {

/// Doubles that carry that many bytes, four each as an integer: they stay what they are where other
/// ranks add zeros.
constexpr std::size_t words_of_bytes(std::size_t bytes) {
  return (bytes + 3) / 4;
}

/// Into all of `words`; bytes beyond what they hold are left out, words beyond the bytes are 0.
void pack_bytes(std::span<const std::byte> bytes, std::span<double> words);

/// The first `bytes.size()` bytes of those packed. Throws CommError if a word is none that
/// `pack_bytes` writes.
void unpack_bytes(std::span<const double> words, std::span<std::byte> bytes);

}  // namespace syncbn::comm
