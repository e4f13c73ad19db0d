// SPDX-License-Identifier: Apache-2.0
#include "comm/group/flight_record.hpp"

#include <algorithm>

#include "core/utf8.hpp"

namespace syncbn::comm {
void FlightRecord::start(const Message& message, Ticks when) {
  FlightEntry& entry = entries_[place(message.sequence)];
  const std::string_view name = cut_to(message.what.layer, longest_name);
  entry.sequence = message.sequence;
  entry.channels = message.what.channels;
  entry.shared = message.what.shared;
  entry.parameters = message.what.parameters;
  entry.length = message.length;
  entry.operation = message.what.operation;
  entry.given = message.what.given;
  entry.dtype = message.what.dtype;
  entry.name_length = static_cast<std::uint8_t>(name.size());
  std::ranges::copy(name, entry.name.begin());
  const std::string_view options = cut_to(message.what.options, longest_options);
  entry.options_length = static_cast<std::uint8_t>(options.size());
  std::ranges::copy(options, entry.options.begin());
  entry.finished.store(0, std::memory_order_relaxed);
  entry.started.store(when, std::memory_order_relaxed);
  last_.store(message.sequence, std::memory_order_release);
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
