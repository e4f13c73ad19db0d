// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/group/descriptor.hpp"
#include "comm/group/ticks.hpp"
#include "comm/group/transport.hpp"

namespace syncbn::comm {

/// Describes one message of a rank. Where ranks share memory it lies there, so that they can read
/// what the others are doing, and what one that died was doing.
struct FlightEntry {
  std::int64_t sequence = 0;  ///< 0: not used yet
  std::int64_t count = 0;
  Facts facts{};
  std::uint64_t length = 0;
  std::atomic<Ticks> started{0};
  std::atomic<Ticks> finished{0};  ///< 0 while it is under way
  std::uint8_t operation = 0;      ///< its place in the record's table of operations
  DType dtype = DType::f64;
  std::uint8_t subject_length = 0;
  std::uint8_t options_length = 0;
  std::array<char, longest_subject> subject{};
  std::array<char, longest_options> options{};
};
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

/// Keeps the last thousand messages of a rank, in a ring that only this rank writes.
class FlightRecord {
 public:
  static constexpr std::size_t capacity = 1000;
  static constexpr std::size_t most_operations = 24;  ///< further ones all become the last

  void start(const Message& message, Ticks when);
  void finish(std::int64_t sequence, Ticks when);

  /// Returns the sequence number of the message begun last, 0 before the first.
  std::int64_t last() const { return last_.load(); }
  /// Returns the entry of a message, which must be among the last thousand.
  const FlightEntry& entry(std::int64_t sequence) const { return entries_[place(sequence)]; }
  /// Returns the entries of the last thousand messages, the oldest first.
  std::vector<const FlightEntry*> latest() const;
  /// Returns what the rank believed to exchange. Texts and operation lie in this record.
  Descriptor what(const FlightEntry& entry) const;

 private:
  static std::size_t place(std::int64_t sequence) {
    return static_cast<std::size_t>(sequence - 1) % capacity;
  }
  /// Returns the place of an operation in the table, which has a copy of it from then on.
  std::uint8_t place_of(const Operation& operation);

  std::atomic<std::int64_t> last_{0};
  std::array<FlightEntry, capacity> entries_;
  // Other processes read the words of operations here, as they cannot follow pointers into this
  // one. A copy is made before the first entry that refers to it, and never changes.
  std::size_t operations_count_ = 0;
  std::array<std::uint64_t, most_operations> hashes_{};
  std::array<Operation, most_operations> operations_;
};

}  // namespace syncbn::comm
