// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace syncbn::comm {

/// Returns how many doubles carry so many bytes. Each holds four bytes as an integer, so that a sum
/// in which the other ranks add zeros keeps them.
constexpr std::size_t words_of_bytes(std::size_t bytes) {
  return (bytes + 3) / 4;
}

/// Packs bytes into `words`. Bytes that do not fit are left out, words that are left over become 0.
void pack_bytes(std::span<const std::byte> bytes, std::span<double> words);

/// Unpacks the first `bytes.size()` bytes. Throws CommError if a word is no integer of 32 bits,
/// which `pack_bytes` writes.
void unpack_bytes(std::span<const double> words, std::span<std::byte> bytes);

}  // namespace syncbn::comm
