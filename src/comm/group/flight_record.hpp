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
  std::int64_t channels = 0;
  std::uint64_t shared = 0;
  std::uint64_t parameters = 0;
  std::uint64_t length = 0;
  std::atomic<Ticks> started{0};
  std::atomic<Ticks> finished{0};  ///< 0 while it is under way
  Operation operation = Operation::all_reduce;
  Given given = Given::x;
  DType dtype = DType::f64;
  std::uint8_t name_length = 0;
  std::uint8_t options_length = 0;
  std::array<char, longest_name> name{};
  std::array<char, longest_options> options{};

  Descriptor what() const {
    return {.operation = operation,
            .layer = {name.data(), name_length},
            .channels = channels,
            .dtype = dtype,
            .shared = shared,
            .options = {options.data(), options_length},
            .parameters = parameters,
            .given = given};
  }
};
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

/// Keeps the last thousand messages of a rank, in a ring that only this rank writes.
class FlightRecord {
 public:
  static constexpr std::size_t capacity = 1000;

  void start(const Message& message, Ticks when);
  void finish(std::int64_t sequence, Ticks when);

  /// Returns the sequence number of the message begun last, 0 before the first.
  std::int64_t last() const { return last_.load(); }
  /// Returns the entry of a message, which must be among the last thousand.
  const FlightEntry& entry(std::int64_t sequence) const { return entries_[place(sequence)]; }
  /// Returns the entries of the last thousand messages, the oldest first.
  std::vector<const FlightEntry*> latest() const;

 private:
  static std::size_t place(std::int64_t sequence) {
    return static_cast<std::size_t>(sequence - 1) % capacity;
  }

  std::atomic<std::int64_t> last_{0};
  std::array<FlightEntry, capacity> entries_;
};

}  // namespace syncbn::comm
