// SPDX-License-Identifier: Apache-2.0
#include "comm/group/flight_record.hpp"

#include <algorithm>

#include "core/utf8.hpp"

namespace syncbn::comm {
namespace {

/// Stands for all operations that a record has no room for.
constexpr Operation another{"another operation"};

}  // namespace

std::uint8_t FlightRecord::place_of(const Operation& operation) {
  std::size_t place = 0;
  while (place < operations_count_ && hashes_[place] != operation.hash) {
    ++place;
  }
  if (place == most_operations) {
    return most_operations - 1;
  }
  if (place == operations_count_) {
    operations_[place] = place + 1 == most_operations ? another : operation;
    hashes_[place] = operations_[place].hash;
    ++operations_count_;
  }
  return static_cast<std::uint8_t>(place);
}

void FlightRecord::start(const Message& message, Ticks when) {
  const Descriptor& what = message.what;
  FlightEntry& entry = entries_[place(message.sequence)];
  const std::string_view subject = cut_to(what.subject, longest_subject);
  entry.sequence = message.sequence;
  entry.count = what.count;
  entry.facts = what.facts;
  entry.length = message.length;
  entry.operation = place_of(*what.operation);
  entry.dtype = what.dtype;
  entry.subject_length = static_cast<std::uint8_t>(subject.size());
  std::ranges::copy(subject, entry.subject.begin());
  const std::string_view options = cut_to(what.options, longest_options);
  entry.options_length = static_cast<std::uint8_t>(options.size());
  std::ranges::copy(options, entry.options.begin());
  entry.finished.store(0, std::memory_order_relaxed);
  entry.started.store(when, std::memory_order_relaxed);
  last_.store(message.sequence, std::memory_order_release);
}

Descriptor FlightRecord::what(const FlightEntry& entry) const {
  return {.operation = &operations_[entry.operation],
          .subject = {entry.subject.data(), entry.subject_length},
          .count = entry.count,
          .dtype = entry.dtype,
          .options = {entry.options.data(), entry.options_length},
          .facts = entry.facts};
}

void FlightRecord::finish(std::int64_t sequence, Ticks when) {
  entries_[place(sequence)].finished.store(when, std::memory_order_relaxed);
}

std::vector<const FlightEntry*> FlightRecord::latest() const {
  std::vector<const FlightEntry*> entries;
  for (std::int64_t sequence = std::max<std::int64_t>(1, last() - std::int64_t{capacity} + 1);
       sequence <= last(); ++sequence) {
    entries.push_back(&entry(sequence));
  }
  return entries;
}

}  // namespace syncbn::comm
