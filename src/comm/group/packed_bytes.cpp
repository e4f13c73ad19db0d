// SPDX-License-Identifier: Apache-2.0
#include "comm/group/packed_bytes.hpp"

#include <cstdint>

#include "comm/group/whole_number.hpp"

namespace syncbn::comm {
namespace {

constexpr std::size_t bytes_per_value = 4;

}  // namespace

void pack_bytes(std::span<const std::byte> bytes, std::span<double> words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::uint32_t word = 0;
    for (std::size_t k = 0; k < bytes_per_value && i * bytes_per_value + k < bytes.size(); ++k) {
      word |= std::to_integer<std::uint32_t>(bytes[i * bytes_per_value + k]) << (8 * k);
    }
    words[i] = static_cast<double>(word);
  }
}

void unpack_bytes(std::span<const double> words, std::span<std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto word = whole_number<std::uint32_t>(words[i / bytes_per_value]);
    bytes[i] = static_cast<std::byte>(word >> (8 * (i % bytes_per_value)) & 0xff);
  }
}

}  // namespace syncbn::comm
