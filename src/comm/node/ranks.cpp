// SPDX-License-Identifier: Apache-2.0
#include "comm/node/ranks.hpp"

#include <algorithm>
#include <chrono>
#include <unistd.h>
#include <utility>

#include "syncbn/error.hpp"

#include "comm/group/deadlines.hpp"
#include "comm/group/descriptor.hpp"

namespace syncbn::comm::node {

Ranks::Ranks(std::shared_ptr<const Areas> areas, int self, std::vector<int> names)
    : memory_(std::move(areas)),
      areas_(memory_->all()),
      self_(static_cast<std::size_t>(self)),
      names_(std::move(names)) {}

std::string Ranks::name(std::size_t rank) const {
  return "rank " + std::to_string(names_[rank]);
}

void Ranks::require_agreement(std::uint64_t fingerprint, std::uint64_t piece) const {
  const std::size_t place = piece % stamps;
  const bool agree = std::ranges::all_of(
      areas_, [&](const Area* area) { return area->fingerprints[place] == fingerprint; });
  if (!agree) {
    std::vector<double> packed(areas_.size() * descriptor_words);
    for (std::size_t rank = 0; rank < areas_.size(); ++rank) {
      const std::int64_t sequence = areas_[rank]->sequences[place];
      pack(areas_[rank]->flight_record.entry(sequence).what(), sequence,
           std::span(packed).subspan(rank * descriptor_words, descriptor_words));
    }
    throw CommError(describe_disagreement(packed, names_));
  }
  require_nobody_gave_up(piece);
}

void Ranks::require_nobody_gave_up(std::uint64_t piece) const {
  for (std::size_t rank = 0; rank < areas_.size(); ++rank) {
    const Area& other = *areas_[rank];
    if (rank != self_ && other.state.load(std::memory_order_acquire) == State::gave_up &&
        !beyond(other.delivered.word.load(), piece)) {
      throw CommError(name(rank) + " gave up: " + other.why.data());
    }
  }
}

std::string Ranks::last_words(std::size_t rank) const {
  const FlightRecord& record = areas_[rank]->flight_record;
  const std::int64_t last = record.last();
  std::string refused;
  if (areas_[rank]->refused_after.load() == last) {
    refused = "; the last it refused: " + areas_[rank]->refused.read();
  }
  if (last == 0) {
    return "; it has not exchanged anything yet" + refused;
  }
  const FlightEntry& entry = record.entry(last);
  const Ticks finished = entry.finished.load();
  const Ticks then = finished != 0 ? finished : entry.started.load();
  const std::chrono::duration<double> ago(seconds_per_tick() *
                                          static_cast<double>(ticks_now() - then));
  return "; the last it did: exchange #" + std::to_string(last) + ", " + describe(entry.what()) +
         ", " + (finished != 0 ? "finished " : "begun ") +
         in_seconds(std::chrono::round<std::chrono::milliseconds>(ago)) + " ago" + refused;
}

bool Ranks::is_this_process() const noexcept {
  return own().process == getpid();
}

void Ranks::refuse(std::string_view why) const noexcept {
  if (is_this_process()) {
    own().refused.write(why);
    own().refused_after.store(own().flight_record.last());
  }
}

void Ranks::give_up(std::string_view why) const noexcept {
  if (!is_this_process()) {
    return;
  }
  write_text(own().why, why);
  own().state.store(State::gave_up);
  wake_all();
}

void Ranks::leave() const noexcept {
  if (!is_this_process()) {
    return;
  }
  State here = State::here;
  own().state.compare_exchange_strong(here, State::left);
  wake_all();
}

void Ranks::wake_all() const noexcept {
  for (Signal* signal : {&own().posted, &own().delivered, &own().gathered}) {
    signal->wake();
  }
}

}  // namespace syncbn::comm::node
