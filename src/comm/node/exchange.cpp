// SPDX-License-Identifier: Apache-2.0
#include "comm/node/exchange.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "syncbn/error.hpp"

#include "comm/group/deadlines.hpp"

namespace syncbn::comm::node {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds between_health_checks(100);

// If the ranks' values of a piece are at most this many together, every rank reads them all.
constexpr std::size_t worth_slices = 8192;

struct Slice {
  std::size_t begin, size;
};

Slice slice_of(std::size_t values, std::size_t owners, std::size_t owner) {
  const std::size_t begin = values * owner / owners;
  return {begin, values * (owner + 1) / owners - begin};
}

}  // namespace

Exchange::Exchange(Ranks ranks, Deadlines deadlines, int owners, std::unique_ptr<Network> network)
    : ranks_(std::move(ranks)),
      cells_(ranks_, owners == 0 && ranks_.size() == 2),
      deadlines_(deadlines),
      owners_(static_cast<std::size_t>(owners)),
      network_(std::move(network)),
      // A message from another host takes so long that spinning would waste the processor.
      yields_(owners > 0 || crowded(ranks_.areas())),
      jobs_(8) {}

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
  const std::size_t begin = (piece - job.first) * piece_length;
  return job.data.subspan(begin, std::min(piece_length, job.data.size() - begin));
}

std::size_t Exchange::owners_of(std::size_t values) const {
  if (owners_ > 0) {
    return owners_;
  }
  return values * ranks_.size() <= worth_slices || cells_.trade() ? 0 : ranks_.size();
}

Transport::Ticket Exchange::start(const Message& message, std::span<double> data) {
  if (next_ - unfinished_ == jobs_.size()) {
    std::vector<Job> more(2 * jobs_.size());
    for (Transport::Ticket ticket = unfinished_; ticket < next_; ++ticket) {
      more[ticket & (more.size() - 1)] = job_at(ticket);
    }
    jobs_ = std::move(more);
  }
  const std::uint64_t pieces =
      std::max<std::size_t>(1, (data.size() + piece_length - 1) / piece_length);
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
      take_back_word();
      continue;
    }
    const Blocker blocker = what_blocks();
    const bool look = blocker.signal != nullptr ? patience.turn(*blocker.signal, blocker.seen,
                                                                ranks_[blocker.rank].sleepers)
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
    announce(ranks_.own().posted, ++posted_);
  }
  return posted_ > before;
}

void Exchange::announce(Signal& signal, std::uint64_t pieces) {
  signal.set(static_cast<std::uint32_t>(pieces), ranks_.own().sleepers);
}

void Exchange::find_room() {
  if (cells_.trade()) {
    room_ = delivered_ + depth;
    return;
  }
  std::uint64_t least = posted_;
  for (const Area* area : ranks_.areas()) {
    const std::uint32_t behind = static_cast<std::uint32_t>(posted_) - area->delivered.word.load();
    least = std::min(least, posted_ - behind);
  }
  room_ = least + depth;
}

bool Exchange::all_posted(std::uint64_t piece) const {
  return std::ranges::all_of(ranks_.areas(), [piece](const Area* area) {
    return beyond(area->posted.word.load(std::memory_order_acquire), piece);
  });
}

bool Exchange::reduce() {
  const std::uint64_t before = reduced_;
  for (; reduced_ < pieces_; ++reduced_) {
    const Job& job = job_of(reduced_, reducing_);
    const std::span<double> values = values_of(job, reduced_);
    const std::size_t owners = owners_of(values.size());
    if (ranks_.self() >= owners) {
      continue;
    }
    if (!all_posted(reduced_)) {
      break;
    }
    ranks_.require_agreement(job.message.fingerprint, reduced_);
    const Slice slice = slice_of(values.size(), owners, ranks_.self());
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
    const Job& job = job_of(gathered_, gathering_);
    const bool has_slice = ranks_.self() < owners_of(values_of(job, gathered_).size());
    if (has_slice && network_ && !network_->finished()) {
      break;
    }
    // A rank without a slice counts as well: a counter left 2^31 pieces behind would look ahead.
    announce(ranks_.own().gathered, gathered_ + 1);
  }
  return gathered_ > before;
}

bool Exchange::deliver() {
  const std::uint64_t before = delivered_;
  while (delivered_ < pieces_) {
    const Job& job = job_of(delivered_, delivering_);
    const std::span<double> values = values_of(job, delivered_);
    const std::size_t owners = owners_of(values.size());
    if (owners == 0) {
      if (!all_posted(delivered_)) {
        break;
      }
      ranks_.require_agreement(job.message.fingerprint, delivered_);
      cells_.add_up(delivered_, values);
    } else {
      const bool all_gathered =
          std::ranges::all_of(ranks_.areas().first(owners), [this](const Area* area) {
            return beyond(area->gathered.word.load(std::memory_order_acquire), delivered_);
          });
      if (!all_gathered) {
        break;
      }
      for (std::size_t owner = 0; !alone() && owner < owners; ++owner) {
        const Slice slice = slice_of(values.size(), owners, owner);
        const Cell& cell = ranks_[owner].slices[delivered_ % depth];
        std::copy_n(cell.begin() + static_cast<std::ptrdiff_t>(slice.begin), slice.size,
                    values.begin() + static_cast<std::ptrdiff_t>(slice.begin));
      }
    }
    announce(ranks_.own().delivered, ++delivered_);
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

// Waiting

Exchange::Blocker Exchange::what_blocks() {
  const auto waits_for = [](std::size_t rank, Signal& signal, std::uint64_t piece,
                            Blocker& blocker) {
    const std::uint32_t seen = signal.word.load();
    if (beyond(seen, piece)) {
      return false;
    }
    blocker = {&signal, seen, rank};
    return true;
  };
  Blocker blocker;
  if (posted_ <= delivered_) {  // this rank waits for room
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
      if (waits_for(rank, ranks_[rank].delivered, posted_ - depth, blocker)) {
        return blocker;
      }
    }
    return blocker;
  }
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    if (waits_for(rank, ranks_[rank].posted, delivered_, blocker)) {
      return blocker;
    }
  }
  if (network_ && gathered_ < reduced_) {
    return blocker;  // this rank waits for other nodes, which give no signal
  }
  const std::size_t owners =
      owners_of(values_of(job_of(delivered_, delivering_), delivered_).size());
  for (std::size_t rank = 0; rank < owners; ++rank) {
    if (waits_for(rank, ranks_[rank].gathered, delivered_, blocker)) {
      return blocker;
    }
  }
  return blocker;
}

void Exchange::look_around(const Blocker& blocker, Watch& watch) {
  const DeadlineClock::Due due = watch.clock.look();
  const Clock::duration waited = watch.clock.waited();
  ranks_.require_nobody_gave_up(delivered_);
  leave_word(watch);
  if (blocker.signal != nullptr && blocker.rank != ranks_.self()) {
    Area& other = ranks_[blocker.rank];
    const std::string name = ranks_.name(blocker.rank);
    const auto still = [&] { return blocker.signal->word.load() == blocker.seen; };
    if (other.state.load() == State::left && still()) {
      throw CommError(name + " left the group" + ranks_.last_words(blocker.rank));
    }
    if (waited >= watch.next_health_check) {
      watch.next_health_check = waited + between_health_checks;
      if (health(other).ended && still()) {
        throw CommError(name + "'s process " + std::to_string(other.process) + " has ended" +
                        ranks_.last_words(blocker.rank));
      }
    }
  }
  if (due == DeadlineClock::Due::report) {
    const std::string text = missing(deadlines_.report);
    if (text.empty()) {
      return;  // all have come since
    }
    watch.clock.report_is_made();
    watch.reported =
        ranks_.name(ranks_.self()) + ", " + describe(job_of(delivered_, delivering_).message.what);
    report(watch.reported + ": " + text);
    if (network_) {
      network_->tell(text, false);
    }
  }
  if (due == DeadlineClock::Due::fail) {
    const std::string text = missing(deadlines_.fail);
    if (!text.empty()) {
      throw CommError(text);
    }
  }
}

bool Exchange::behind(std::size_t rank, std::size_t owners, bool all_posted) const {
  const Area& other = ranks_[rank];
  if (posted_ <= delivered_) {  // this rank waits for room
    return !beyond(other.delivered.word.load(), posted_ - depth);
  }
  if (!all_posted) {  // no owner can have added up a slice yet
    return !beyond(other.posted.word.load(), delivered_);
  }
  return rank < owners && !beyond(other.gathered.word.load(), delivered_);
}

std::string Exchange::missing(std::chrono::milliseconds waited) {
  std::string who;
  std::string details;
  int ranks = 0;
  const std::size_t values = values_of(job_of(delivered_, delivering_), delivered_).size();
  const std::size_t owners = owners_ == 0 ? owners_of(values) : 0;  // that wait for this node only
  const bool posted = all_posted(delivered_);
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    if (rank != ranks_.self() && behind(rank, owners, posted)) {
      const std::string name = ranks_.name(rank);
      who += (ranks++ == 0 ? "" : ", ") + name;
      details += "\n  " + name;
      if (const Health now = health(ranks_[rank]); !now.text.empty()) {
        details +=
            ": its process " + std::to_string(ranks_[rank].process) + " " + std::string(now.text);
      }
      details += ranks_.last_words(rank);
    }
  }
  if (ranks > 0) {
    return who + " did not come within " + in_seconds(waited) + details;
  }
  return owners_ == 0 ? "" : missing_elsewhere(waited);
}

std::string Exchange::missing_elsewhere(std::chrono::milliseconds waited) {
  const bool by_ourselves = network_ && gathered_ < reduced_;
  const std::string word = by_ourselves ? whom_we_wait_for() : ranks_[0].waits_for.read();
  if (word.empty()) {
    return ranks_.name(0) +
           ", which collects what other hosts send, had nothing to pass on within " +
           in_seconds(waited);
  }
  const std::size_t end = std::min(word.find('\n'), word.size());
  return word.substr(0, end) + " did not come within " + in_seconds(waited) + word.substr(end);
}

std::string Exchange::whom_we_wait_for() {
  const std::string news = network_->news();
  return network_->missing() + (news.empty() ? "" : "\n  " + news);
}

void Exchange::leave_word(Watch& watch) {
  if (!network_) {
    return;
  }
  const Clock::duration waited = watch.clock.waited();
  if (gathered_ == reduced_ || waited < watch.next_word) {
    network_->news();  // throws if another node has given up
    return;
  }
  // Other ranks of this node read the word at a deadline of theirs, so it is written before.
  const Clock::duration first = std::min(deadlines_.report, deadlines_.fail) / 4;
  watch.next_word = waited + first;
  if (waited < first || alone()) {
    return;
  }
  if (const std::string word = whom_we_wait_for(); word != word_) {
    word_ = word;
    ranks_.own().waits_for.write(word);
  }
}

void Exchange::take_back_word() {
  if (!word_.empty()) {
    word_.clear();
    ranks_.own().waits_for.write("");
  }
}

}  // namespace syncbn::comm::node
