// SPDX-License-Identifier: Apache-2.0
//
// The state is taken as a series of 64-bit words w. The checksum h of those so far becomes
//
//   h = scrambled((h ^ w) + c),  c the increment of splitmix64.
//
// For a given h this has another value for each w, and for a given w another for each h. So two
// series that differ in one word differ in h from there on.

#include "state/checksum.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string_view>

#include "core/scrambled.hpp"

namespace syncbn {
namespace {

class Checksum {
 public:
  void add(std::uint64_t word) { sum_ = scrambled((sum_ ^ word) + 0x9e3779b97f4a7c15); }

  /// Adds the number of bytes and the bytes. Without the number, what follows could be taken for
  /// part of them.
  void add(std::span<const std::byte> bytes) {
    add(bytes.size());
    while (!bytes.empty()) {
      std::uint64_t word = 0;
      const std::size_t taken = std::min(bytes.size(), sizeof word);
      std::memcpy(&word, bytes.data(), taken);
      add(word);
      bytes = bytes.subspan(taken);
    }
  }
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }

  std::uint64_t sum() const { return sum_; }

 private:
  std::uint64_t sum_ = 0;
};

}  // namespace

std::string checksum_of(const StateDict& state) {
  Checksum checksum;
  checksum.add(state.metadata.size() - state.metadata.count(checksum_key));
  for (const auto& [key, value] : state.metadata) {
    if (key != checksum_key) {
      checksum.add(key);
      checksum.add(value);
    }
  }
  checksum.add(state.tensors.size());
  for (const auto& [name, tensor] : state.tensors) {
    checksum.add(name);
    checksum.add(tensor.type_name());
    checksum.add(std::as_bytes(std::span(tensor.shape)));
    checksum.add(tensor.bytes);
  }
  std::array<char, 17> digits;
  std::snprintf(digits.data(), digits.size(), "%016llx",
                static_cast<unsigned long long>(checksum.sum()));
  return digits.data();
}

}  // namespace syncbn
