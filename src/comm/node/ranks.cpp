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

Ranks::Ranks(std::shared_ptr<const Areas> areas, std::size_t self, std::vector<int> names,
             Roles roles)
    : memory_(std::move(areas)),
      areas_(memory_->all()),
      self_(self),
      names_(std::move(names)),
      roles_(roles) {}

Ranks::Ranks(std::shared_ptr<const Areas> areas, std::size_t self, std::vector<int> names)
    : Ranks(areas, self, std::move(names), {.contributors = areas->count()}) {}

std::string Ranks::name(std::size_t member) const {
  return contributes(member) ? "rank " + std::to_string(names_[member]) : "the reducer";
}

Message Ranks::message_of(std::uint64_t piece) const {
  const Area& first = *areas_.front();
  const std::int64_t sequence = first.sequences[piece % stamps];
  const FlightEntry& entry = first.flight_record.entry(sequence);
  return {.what = first.flight_record.what(entry),
          .sequence = sequence,
          .length = entry.length,
          .fingerprint = first.fingerprints[piece % stamps]};
}

void Ranks::require_agreement(std::uint64_t fingerprint, std::uint64_t piece) const {
  const std::size_t place = piece % stamps;
  const bool agree = std::ranges::all_of(
      contributors(), [&](const Area* area) { return area->fingerprints[place] == fingerprint; });
  if (!agree) {
    std::vector<double> packed(roles_.contributors * descriptor_words);
    for (std::size_t rank = 0; rank < roles_.contributors; ++rank) {
      const std::int64_t sequence = areas_[rank]->sequences[place];
      const FlightRecord& record = areas_[rank]->flight_record;
      pack(record.what(record.entry(sequence)), sequence,
           std::span(packed).subspan(rank * descriptor_words, descriptor_words));
    }
    throw CommError(describe_disagreement(*message_of(piece).what.operation, packed, names_));
  }
  require_nobody_gave_up(piece);
}

void Ranks::require_nobody_gave_up(std::uint64_t piece) const {
  for (std::size_t member = 0; member < areas_.size(); ++member) {
    const Area& other = *areas_[member];
    if (member == self_ || other.state.load(std::memory_order_acquire) != State::gave_up) {
      continue;
    }
    const Signal& done = contributes(member) ? other.delivered : other.gathered;
    if (!beyond(done.word.load(), piece)) {
      throw CommError(name(member) + " gave up: " + other.why.data());
    }
  }
}

std::string Ranks::last_words(std::size_t member) const {
  if (!contributes(member)) {
    return "";
  }
  const FlightRecord& record = areas_[member]->flight_record;
  const std::int64_t last = record.last();
  std::string refused;
  if (areas_[member]->refused_after.load() == last) {
    refused = "; the last it refused: " + areas_[member]->refused.read();
  }
  if (last == 0) {
    return "; it has not exchanged anything yet" + refused;
  }
  const FlightEntry& entry = record.entry(last);
  const Ticks finished = entry.finished.load();
  const Ticks then = finished != 0 ? finished : entry.started.load();
  const std::chrono::duration<double> ago(seconds_per_tick() *
                                          static_cast<double>(ticks_now() - then));
  return "; the last it did: exchange #" + std::to_string(last) + ", " +
         describe(record.what(entry)) + ", " + (finished != 0 ? "finished " : "begun ") +
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
