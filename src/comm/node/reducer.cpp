// SPDX-License-Identifier: Apache-2.0
#include "comm/node/reducer.hpp"

#include <cassert>
#include <span>
#include <utility>

#include "comm/node/pieces.hpp"

namespace syncbn::comm::node {

Reducer::Reducer(Ranks ranks, Deadlines deadlines, std::unique_ptr<Network> network)
    : ranks_(std::move(ranks)),
      cells_(ranks_, false),
      network_(std::move(network)),
      waits_for_(ranks_.own(), deadlines),
      wait_(deadlines) {
  assert(!ranks_.contributes());
}

Reducer::~Reducer() {
  ranks_.leave();
}

bool Reducer::advance() {
  const bool reduced = reduce();
  const bool gathered = gather();
  if (reduced || gathered) {
    wait_.restart();
    waits_for_.erase();
    return true;
  }
  ranks_.require_nobody_gave_up(gathered_);
  if (gathered_ < reduced_) {  // it waits for other nodes
    wait_.look();
    waits_for_.write(*network_, wait_.waited());
  }
  return false;
}

bool Reducer::reduce() {
  const std::uint64_t before = reduced_;
  for (; ranks_.all_posted(reduced_); ++reduced_) {
    if (reduced_ == end_) {
      begin_message();
    }
    ranks_.require_agreement(message_.fingerprint, reduced_);
    const std::size_t values = values_in_piece(message_.length, reduced_ - first_);
    const Roles& roles = ranks_.roles();
    const Slice slice = slice_of(values, roles.reducers, ranks_.self() - roles.first_reducer);
    const std::span<double> sum = cells_.add_up_slice(reduced_, slice.begin, slice.size);
    if (network_) {
      network_->start(message_, reduced_, sum);
    }
  }
  return reduced_ > before;
}

// All contributors have posted the message's first piece and so have written what it is.
void Reducer::begin_message() {
  message_ = ranks_.message_of(reduced_);
  first_ = reduced_;
  end_ = first_ + pieces_of(message_.length);
}

bool Reducer::gather() {
  const std::uint64_t before = gathered_;
  while (gathered_ < reduced_ && (!network_ || network_->finished())) {
    ++gathered_;
    ranks_.announce(ranks_.own().gathered, gathered_);
  }
  return gathered_ > before;
}

void Reducer::give_up(std::string_view why) noexcept {
  ranks_.give_up(why);
  if (network_ && ranks_.is_this_process()) {
    network_->tell(why, true);
  }
}

}  // namespace syncbn::comm::node
