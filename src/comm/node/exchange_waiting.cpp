// SPDX-License-Identifier: Apache-2.0
//
// What a rank does while it waits in Exchange::finish: it finds out for what, looks whether that
// will still come, and reports and fails at the deadlines.

#include <algorithm>
#include <chrono>
#include <string>

#include "syncbn/error.hpp"

#include "comm/group/deadlines.hpp"
#include "comm/node/exchange.hpp"
#include "comm/node/pieces.hpp"

namespace syncbn::comm::node {
namespace {

constexpr std::chrono::milliseconds between_health_checks(100);

}  // namespace

Exchange::Blocker Exchange::what_blocks() {
  const auto waits_for = [](std::size_t member, Signal& signal, std::uint64_t piece,
                            Blocker& blocker) {
    const std::uint32_t seen = signal.word.load();
    if (beyond(seen, piece)) {
      return false;
    }
    blocker = {&signal, seen, member};
    return true;
  };
  const std::size_t contributors = ranks_.roles().contributors;
  Blocker blocker;
  if (posted_ <= delivered_) {  // this rank waits for room
    for (std::size_t rank = 0; rank < contributors; ++rank) {
      if (waits_for(rank, ranks_[rank].delivered, posted_ - depth, blocker)) {
        return blocker;
      }
    }
    return blocker;
  }
  for (std::size_t rank = 0; rank < contributors; ++rank) {
    if (waits_for(rank, ranks_[rank].posted, delivered_, blocker)) {
      return blocker;
    }
  }
  if (network_ && gathered_ < reduced_) {
    return blocker;  // this rank waits for other nodes, which give no signal
  }
  const auto [first, count] =
      reducers_of(values_of(job_of(delivered_, delivering_), delivered_).size());
  for (std::size_t member = first; member < first + count; ++member) {
    if (waits_for(member, ranks_[member].gathered, delivered_, blocker)) {
      return blocker;
    }
  }
  return blocker;
}

void Exchange::look_around(const Blocker& blocker, Watch& watch) {
  const DeadlineClock::Due due = watch.clock.look();
  const Clock::duration waited = watch.clock.waited();
  ranks_.require_nobody_gave_up(delivered_);
  tell_own_node(watch);
  if (blocker.signal != nullptr && blocker.member != ranks_.self()) {
    Area& other = ranks_[blocker.member];
    const std::string name = ranks_.name(blocker.member);
    const auto still = [&] { return blocker.signal->word.load() == blocker.seen; };
    if (other.state.load() == State::left && still()) {
      throw CommError(name + " left the group" + ranks_.last_words(blocker.member));
    }
    if (waited >= watch.next_health_check) {
      watch.next_health_check = waited + between_health_checks;
      if (health(other).ended && still()) {
        throw CommError(name + "'s process " + std::to_string(other.process) + " has ended" +
                        ranks_.last_words(blocker.member));
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

bool Exchange::behind(std::size_t member, const Reducers& reducers, bool all_posted) const {
  const Area& other = ranks_[member];
  if (posted_ <= delivered_) {  // this rank waits for room
    return ranks_.contributes(member) && !beyond(other.delivered.word.load(), posted_ - depth);
  }
  if (!all_posted) {  // no reducer can have added up a slice yet
    return ranks_.contributes(member) && !beyond(other.posted.word.load(), delivered_);
  }
  return member - reducers.first < reducers.count &&
         !beyond(other.gathered.word.load(), delivered_);
}

std::string Exchange::missing(std::chrono::milliseconds waited) {
  std::string who;
  std::string details;
  int ranks = 0;
  const std::size_t values = values_of(job_of(delivered_, delivering_), delivered_).size();
  const bool may_wait_elsewhere = ranks_.roles().reducers > 0;  // the reducers, for other nodes
  const Reducers reducers = may_wait_elsewhere ? Reducers() : reducers_of(values);
  const bool posted = ranks_.all_posted(delivered_);
  for (std::size_t member = 0; member < ranks_.size(); ++member) {
    if (member != ranks_.self() && behind(member, reducers, posted)) {
      const std::string name = ranks_.name(member);
      who += (ranks++ == 0 ? "" : ", ") + name;
      details += "\n  " + name;
      if (const Health now = health(ranks_[member]); !now.text.empty()) {
        details +=
            ": its process " + std::to_string(ranks_[member].process) + " " + std::string(now.text);
      }
      details += ranks_.last_words(member);
    }
  }
  if (ranks > 0) {
    return who + " did not come within " + in_seconds(waited) + details;
  }
  return may_wait_elsewhere ? missing_elsewhere(waited) : "";
}

std::string Exchange::missing_elsewhere(std::chrono::milliseconds waited) {
  const bool by_ourselves = network_ && gathered_ < reduced_;
  const std::size_t reducer = ranks_.roles().first_reducer;
  const std::string word =
      by_ourselves ? whom_it_waits_for(*network_) : ranks_[reducer].waits_for.read();
  if (word.empty()) {
    return ranks_.name(reducer) +
           ", which collects what other hosts send, had nothing to pass on within " +
           in_seconds(waited);
  }
  const std::size_t end = std::min(word.find('\n'), word.size());
  return word.substr(0, end) + " did not come within " + in_seconds(waited) + word.substr(end);
}

void Exchange::tell_own_node(const Watch& watch) {
  if (!network_) {
    return;
  }
  if (gathered_ == reduced_ || alone()) {
    network_->news();  // throws if another node has given up
  } else {
    waits_for_.write(*network_, watch.clock.waited());
  }
}

}  // namespace syncbn::comm::node
