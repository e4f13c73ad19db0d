// SPDX-License-Identifier: Apache-2.0
#include "comm/node/exchange.hpp"

#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>

#include "comm/group/deadlines.hpp"
#include "comm/node/pieces.hpp"

namespace syncbn::comm::node {
namespace {

// If the ranks' values of a piece are at most this many together, every rank reads them all.
constexpr std::size_t worth_slices = 8192;

}  // namespace

Exchange::Exchange(Ranks ranks, Deadlines deadlines, std::unique_ptr<Network> network)
    : ranks_(std::move(ranks)),
      cells_(ranks_, ranks_.roles().reducers == 0 && ranks_.size() == 2),
      deadlines_(deadlines),
      network_(std::move(network)),
      waits_for_(ranks_.own(), deadlines),
      // A message from another host takes so long that spinning would waste the processor.
      yields_(ranks_.roles().reducers > 0 || crowded(ranks_.areas())),
      jobs_(8) {
  assert(ranks_.contributes());
}

Exchange::~Exchange() {
  ranks_.leave();
}

// Jobs and pieces

// Returns the job of a piece, and moves `cursor` to it. The search begins at the job of the piece
// before, whose place in the ring may hold a later job by now.
Exchange::Job& Exchange::job_of(std::uint64_t piece, Transport::Ticket& cursor) {
  while (true) {
    Job& job = job_at(cursor);
    if (job.first <= piece && piece < job.first + job.pieces) {
      return job;
    }
    ++cursor;
  }
}

std::span<double> Exchange::values_of(const Job& job, std::uint64_t piece) {
  const std::uint64_t place = piece - job.first;
  return job.data.subspan(place * piece_length, values_in_piece(job.data.size(), place));
}

Exchange::Reducers Exchange::reducers_of(std::size_t values) const {
  const Roles& roles = ranks_.roles();
  if (roles.reducers > 0) {
    return {roles.first_reducer, roles.reducers};
  }
  const bool all_read_all = values * roles.contributors <= worth_slices || cells_.trade();
  return {0, all_read_all ? 0 : roles.contributors};
}

Transport::Ticket Exchange::start(const Message& message, std::span<double> data) {
  if (next_ - unfinished_ == jobs_.size()) {
    std::vector<Job> more(2 * jobs_.size());
    for (Transport::Ticket ticket = unfinished_; ticket < next_; ++ticket) {
      more[ticket & (more.size() - 1)] = job_at(ticket);
    }
    jobs_ = std::move(more);
  }
  const std::uint64_t pieces = pieces_of(data.size());
  job_at(next_) = {message, data, pieces_, pieces};
  pieces_ += pieces;
  post();
  if (network_) {  // it makes progress only when it is called
    reduce();
    gather();
  }
  return next_++;
}

bool Exchange::arrived(Transport::Ticket ticket) {
  if (ticket >= unfinished_) {
    advance();
  }
  return ticket < unfinished_;
}

void Exchange::finish(Transport::Ticket ticket) {
  if (arrived(ticket)) {
    return;
  }
  const auto done = [&] { return ticket < unfinished_; };
  Patience patience(yields_);
  Watch watch(deadlines_);
  std::optional<Watch> reported;  // the first wait on which there was a report
  while (!done()) {
    if (advance()) {
      if (!watch.reported.empty() && !reported) {
        reported = std::move(watch);
      }
      patience = Patience(yields_);
      watch = Watch(deadlines_);
      waits_for_.erase();
      continue;
    }
    const Blocker blocker = what_blocks();
    const bool look = blocker.signal != nullptr ? patience.turn(*blocker.signal, blocker.seen,
                                                                ranks_[blocker.member].sleepers)
                                                : patience.turn();
    if (look) {
      look_around(blocker, watch);
    }
  }
  if (reported) {
    report_end_of_wait(reported->reported, Clock::now() - reported->begin);
  }
}

// Progress. Each of these does what can be done now, and returns whether that was anything.

bool Exchange::advance() {
  bool moved = post();
  if (!cells_.trade()) {  // two ranks that trade have no slices
    moved |= reduce();
    moved |= gather();
  }
  moved |= deliver();
  return moved;
}

bool Exchange::post() {
  const std::uint64_t before = posted_;
  while (posted_ < pieces_) {
    if (posted_ == room_) {
      find_room();
      if (posted_ == room_) {
        break;
      }
    }
    const Job& job = job_of(posted_, posting_);
    const std::size_t place = posted_ % stamps;
    if (!alone()) {
      cells_.put(posted_, values_of(job, posted_));
    }
    ranks_.own().sequences[place] = job.message.sequence;
    ranks_.own().fingerprints[place] = job.message.fingerprint;
    ranks_.announce(ranks_.own().posted, ++posted_);
  }
  return posted_ > before;
}

void Exchange::find_room() {
  if (cells_.trade()) {
    room_ = delivered_ + depth;
    return;
  }
  std::uint64_t least = posted_;
  for (const Area* area : ranks_.contributors()) {
    const std::uint32_t behind = static_cast<std::uint32_t>(posted_) - area->delivered.word.load();
    least = std::min(least, posted_ - behind);
  }
  room_ = least + depth;
}

bool Exchange::reduce() {
  const std::uint64_t before = reduced_;
  for (; reduced_ < pieces_; ++reduced_) {
    const Job& job = job_of(reduced_, reducing_);
    const std::span<double> values = values_of(job, reduced_);
    const Reducers reducers = reducers_of(values.size());
    const std::size_t own = ranks_.self() - reducers.first;
    if (own >= reducers.count) {
      continue;
    }
    if (!ranks_.all_posted(reduced_)) {
      break;
    }
    ranks_.require_agreement(job.message.fingerprint, reduced_);
    const Slice slice = slice_of(values.size(), reducers.count, own);
    const std::span<double> sum =
        alone() ? values : cells_.add_up_slice(reduced_, slice.begin, slice.size);
    if (network_) {
      network_->start(job.message, reduced_, sum);
    }
  }
  return reduced_ > before;
}

bool Exchange::gather() {
  const std::uint64_t before = gathered_;
  for (; gathered_ < reduced_; ++gathered_) {
    if (network_ && !network_->finished()) {  // whoever has a network has a slice of every piece
      break;
    }
    // A rank without a slice counts as well: a counter left 2^31 pieces behind would look ahead.
    ranks_.announce(ranks_.own().gathered, gathered_ + 1);
  }
  return gathered_ > before;
}

bool Exchange::deliver() {
  const std::uint64_t before = delivered_;
  while (delivered_ < pieces_) {
    const Job& job = job_of(delivered_, delivering_);
    const std::span<double> values = values_of(job, delivered_);
    const Reducers reducers = reducers_of(values.size());
    if (reducers.count == 0) {
      if (!ranks_.all_posted(delivered_)) {
        break;
      }
      ranks_.require_agreement(job.message.fingerprint, delivered_);
      cells_.add_up(delivered_, values);
    } else {
      const bool all_gathered = std::ranges::all_of(
          ranks_.areas().subspan(reducers.first, reducers.count), [this](const Area* area) {
            return beyond(area->gathered.word.load(std::memory_order_acquire), delivered_);
          });
      if (!all_gathered) {
        break;
      }
      collect(reducers, values);
    }
    ranks_.announce(ranks_.own().delivered, ++delivered_);
    if (!alone()) {
      cells_.claim(posted_, values.size());
    }
    while (unfinished_ < next_ &&
           delivered_ >= job_at(unfinished_).first + job_at(unfinished_).pieces) {
      ++unfinished_;
    }
  }
  return delivered_ > before;
}

void Exchange::collect(const Reducers& reducers, std::span<double> values) {
  if (alone()) {
    return;  // they have been summed where they are
  }
  for (std::size_t reducer = 0; reducer < reducers.count; ++reducer) {
    const Slice slice = slice_of(values.size(), reducers.count, reducer);
    const Cell& cell = ranks_[reducers.first + reducer].slices[delivered_ % depth];
    std::copy_n(cell.begin() + static_cast<std::ptrdiff_t>(slice.begin), slice.size,
                values.begin() + static_cast<std::ptrdiff_t>(slice.begin));
  }
}

void Exchange::give_up(std::string_view why) noexcept {
  ranks_.give_up(why);
  if (network_ && ranks_.is_this_process()) {
    network_->tell(why, true);
  }
}

void Exchange::refuse(std::string_view why) noexcept {
  ranks_.refuse(why);
  if (network_ && ranks_.is_this_process()) {
    network_->refuse(ranks_.own().flight_record.last(), why);
  }
}

}  // namespace syncbn::comm::node
