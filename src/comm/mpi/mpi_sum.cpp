// SPDX-License-Identifier: Apache-2.0
//
// Messages are summed by the MPI library's own all-reduce: MPI_Iallreduce, polled, on duplicates of
// the user's communicator.
//
// The call is non-blocking, because MPI has no other way to give up waiting. Each message length
// has a duplicate of its own, because MPI does not check that lengths agree: with Open MPI 4.1
// ranks of different lengths get MPI_SUCCESS with wrong numbers, or a broken heap. On separate
// communicators such ranks wait for each other instead. So a rank that has waited for a while tells
// all others what it is doing, and hears who is doing something else, and who is silent. Messages
// are staged in memory of ours, which outlives an abandoned request.
//
// One wait has no deadline: MPI makes a communicator of some ranks in a call that blocks, so a rank
// that is stopped in the middle of a split into several groups holds the others.

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <mpi.h>

#include "syncbn/error.hpp"

#include "comm/group/deadline_clock.hpp"
#include "comm/group/deadlines.hpp"
#include "comm/group/descriptor.hpp"
#include "comm/group/fingerprint.hpp"
#include "comm/host/in_flight.hpp"
#include "comm/host/plain_sum.hpp"
#include "comm/mpi/handles.hpp"
#include "comm/mpi/meeting.hpp"
#include "comm/mpi/members.hpp"
#include "comm/mpi/notices.hpp"
#include "comm/mpi/transports.hpp"

namespace syncbn::comm::mpi {
namespace {

class MpiSum final : public PlainSum {
 public:
  MpiSum(Members members, Deadlines deadlines)
      : base_(std::move(members)),
        notices_(base_, Kind::notice),
        deadlines_(deadlines),
        rank_(base_.rank()),
        size_(base_.size()),
        heard_(static_cast<std::size_t>(size_)) {
    comm_for(fingerprint_words, set_up());  // for the fingerprints that precede new lengths
  }

  MpiSum(const MpiSum&) = delete;
  MpiSum& operator=(const MpiSum&) = delete;
  ~MpiSum() override {
    base_.abandon();         // notices may still come there (notices.hpp)
    if (in_flight_.any()) {  // a pass ended early
      abandon();
    }
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::size_t start(const Message& message, std::span<double> values) override {
    if (values.size() > INT_MAX) {
      throw InvalidArgument(std::to_string(values.size()) +
                            " values in one message (MPI counts to 2^31 - 1). Send it in pieces.");
    }
    last_ = message.sequence;
    const OwnedComm& comm = comm_for(values.size(), message);
    const std::size_t place = in_flight_.take();
    Sent& sent = in_flight_[place];
    sent.message = message;
    sent.values = values;
    sent.staging.assign(values.begin(), values.end());
    check(MPI_Iallreduce(MPI_IN_PLACE, sent.staging.data(), static_cast<int>(values.size()),
                         MPI_DOUBLE, MPI_SUM, comm.get(), &sent.request),
          "MPI_Iallreduce");
    return place;
  }

  bool arrived(std::size_t started) override {
    try {
      return tested(in_flight_[started].request);
    } catch (...) {
      abandon();
      throw;
    }
  }

  void finish(std::size_t started) override {
    Sent& sent = in_flight_[started];
    wait(sent.request, sent.message);
    std::ranges::copy(sent.staging, sent.values.begin());
    in_flight_.release(started);
  }

  void give_up(std::string_view why) noexcept override {
    if (base_.usable()) {
      notices_.tell_all(gone, why);
    }
  }

  void refuse(std::string_view why) noexcept override {
    if (base_.usable() && refusals_ < most_refusals) {
      ++refusals_;
      notices_.tell_all(refused, std::to_string(last_) + ' ' + std::string(why));
    }
  }

  std::unique_ptr<PlainSum> split(std::span<const int> colors) override {
    Meeting(base_, making, deadlines_).exchange("");
    const bool alike = std::ranges::all_of(colors, [&](int color) { return color == colors[0]; });
    return std::make_unique<MpiSum>(Members(alike ? duplicate_base(set_up()) : part(colors)),
                                    deadlines_);
  }

 private:
  struct Sent {
    Message message;
    std::span<double> values;
    std::vector<double> staging;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  using Packed = std::array<double, descriptor_words>;
  using Clock = std::chrono::steady_clock;

  // Kinds of notices between ranks. A refusal is told with the number of the last message before
  // and a blank in front.
  static constexpr char waiting = 'w';  // what the sender waits in: its packed descriptor
  static constexpr char gone = 'g';     // why the sender has given up
  static constexpr char refused = 'r';  // why the sender has refused a call

  /// Holds what a rank has told in its notices.
  struct Heard {
    std::optional<Packed> waits_in;
    std::string refused;  ///< text of its last notice of that kind
  };

  static constexpr const char* making = "making a communicator";

  // Returns how long a rank waits before it tells the others what it waits in, and then for their
  // answers.
  std::chrono::milliseconds patience() const {
    return std::min<std::chrono::milliseconds>(std::chrono::milliseconds(200), deadlines_.fail / 4);
  }

  // Returns what stands for the message while a group is set up. Its number is 0, -1, ..., the same
  // on every rank, as all ranks set up groups in the same order.
  Message set_up() {
    Message none;
    none.sequence = -set_ups_++;
    return none;
  }

  void wait(MPI_Request& request, const Message& message) {
    try {
      if (!finished(request, patience(), [this] { listen(); })) {
        wait_with_the_others(request, message);
      }
    } catch (...) {
      abandon();
      throw;
    }
  }

  void wait_with_the_others(MPI_Request& request, const Message& message) {
    const Clock::time_point begin = Clock::now() - patience();
    DeadlineClock clock(deadlines_, patience());
    Packed own;
    pack(message.what, message.sequence, own);
    heard_[static_cast<std::size_t>(rank_)].waits_in = own;
    notices_.tell_all(waiting, {reinterpret_cast<const char*>(own.data()), sizeof own});
    Clock::time_point answered = Clock::time_point::max();
    std::string reported;
    while (!finished(request, std::chrono::milliseconds(10))) {
      listen();
      const Clock::time_point now = Clock::now();
      if (answered == Clock::time_point::max() && others_differ(own)) {
        answered = now + patience();  // the rest may be on their way
      }
      if (now >= answered) {
        throw CommError(table(*message.what.operation, own));
      }
      const DeadlineClock::Due due = clock.look(now);
      if (due == DeadlineClock::Due::report) {
        clock.report_is_made();
        reported = "rank " + std::to_string(rank_) + ", " +
                   (message.sequence <= 0 ? making : describe(message.what));
        report(reported + ": " + silence(own, deadlines_.report));
      }
      if (due == DeadlineClock::Due::fail) {
        throw CommError(silence(own, deadlines_.fail));
      }
    }
    if (!reported.empty()) {
      report_end_of_wait(reported, Clock::now() - begin);
    }
  }

  void listen() {
    while (const std::optional<Notices::Notice> notice = notices_.next()) {
      Heard& heard = heard_[static_cast<std::size_t>(notice->from)];
      if (notice->about == gone) {
        throw CommError("rank " + std::to_string(notice->from) + " gave up: " + notice->text);
      }
      if (notice->about == refused) {
        heard.refused = notice->text;
        continue;
      }
      Packed packed{};
      std::memcpy(packed.data(), notice->text.data(), std::min(sizeof packed, notice->text.size()));
      heard.waits_in = packed;
    }
  }

  // Tells whether a rank is waiting in a message of the same number as this rank's.
  bool is_here(int rank, const Packed& own) const {
    const std::optional<Packed>& other = heard_[static_cast<std::size_t>(rank)].waits_in;
    return other && other->front() == own.front();
  }

  bool others_differ(const Packed& own) const {
    for (int rank = 0; rank < size_; ++rank) {
      if (is_here(rank, own) && *heard_[static_cast<std::size_t>(rank)].waits_in != own) {
        return true;
      }
    }
    return false;
  }

  std::string table(const Operation& operation, const Packed& own) const {
    std::vector<double> packed;
    std::vector<int> ranks;
    for (int rank = 0; rank < size_; ++rank) {
      if (is_here(rank, own)) {
        ranks.push_back(rank);
        std::ranges::copy(*heard_[static_cast<std::size_t>(rank)].waits_in,
                          std::back_inserter(packed));
      }
    }
    return describe_disagreement(operation, packed, ranks);
  }

  // Returns an error's text: which ranks have not told that they wait in this message, and what
  // those have refused since the message before.
  std::string silence(const Packed& own, std::chrono::milliseconds waited) const {
    std::vector<int> ranks;
    std::string refusals;
    for (int rank = 0; rank < size_; ++rank) {
      if (is_here(rank, own)) {
        continue;
      }
      ranks.push_back(rank);
      const std::string& refusal = heard_[static_cast<std::size_t>(rank)].refused;
      const std::size_t blank = refusal.find(' ');
      if (refusal.substr(0, blank) == std::to_string(std::llround(own.front()) - 1)) {
        refusals += "\n  rank " + std::to_string(rank) +
                    "; the last it refused: " + refusal.substr(blank + 1);
      }
    }
    std::string who = "the sum";
    if (!ranks.empty()) {
      who = ranks.size() == 1
                ? list_ranks(ranks)
                : "one or more of " + list_ranks(ranks) + " (MPI's own sum does not tell which)";
    }
    return who + " did not come within " + in_seconds(waited) + refusals;
  }

  // Returns the communicator for messages of this length. It is made at the length's first message,
  // for which the fingerprints have just been compared, so all ranks make it together. MPI has
  // communicators for some thousand lengths; above max_lengths the one that was not used for
  // longest is freed, the same on every rank.
  OwnedComm& comm_for(std::size_t length, const Message& message) {
    auto known = by_length_.find(length);
    if (known == by_length_.end()) {
      if (by_length_.size() == max_lengths) {
        by_length_.erase(std::ranges::min_element(
            by_length_, {}, [](const auto& entry) { return entry.second.last_use; }));
      }
      known = by_length_.emplace(length, Channel{duplicate_base(message), 0}).first;
    }
    known->second.last_use = ++uses_;
    return known->second.comm;
  }

  OwnedComm duplicate_base(const Message& message) {
    return duplicate(base_.comm(), [&](MPI_Request& request) { wait(request, message); });
  }

  // Collective. Returns a communicator of the ranks with this rank's color, where there are several
  // colors. The call has no deadline, so the caller has just made sure that all ranks are here.
  OwnedComm part(std::span<const int> colors) {
    // MPI takes no negative colors, and MPI_UNDEFINED is none: it gets the color's place among all.
    const std::set<int> distinct(colors.begin(), colors.end());
    const auto own = distinct.find(colors[static_cast<std::size_t>(rank_)]);
    MPI_Comm made = MPI_COMM_NULL;
    check(MPI_Comm_split(base_.comm(), static_cast<int>(std::distance(distinct.begin(), own)),
                         rank_, &made),
          "MPI_Comm_split");
    return OwnedComm(made);
  }

  // Leaves to MPI what it may still be working with. No rank uses these communicators and messages
  // any more.
  void abandon() {
    base_.abandon();
    for (auto& [length, channel] : by_length_) {
      channel.comm.abandon();
    }
    new InFlight<Sent>(std::exchange(in_flight_, {}));
  }

  static constexpr std::size_t max_lengths = 256;
  struct Channel {
    OwnedComm comm;
    std::int64_t last_use;
  };

  static constexpr int most_refusals = 100;  ///< sent; they lie unread until a receiver waits

  Members base_;
  Notices notices_;
  Deadlines deadlines_;
  int rank_;
  int size_;
  std::map<std::size_t, Channel> by_length_;
  std::int64_t uses_ = 0;
  InFlight<Sent> in_flight_;
  std::vector<Heard> heard_;  ///< by rank
  int refusals_ = 0;
  std::int64_t last_ = 0;  ///< number of the message started last
  std::int64_t set_ups_ = 0;
};

}  // namespace

std::unique_ptr<Transport> mpi_transport(Members members, Deadlines deadlines) {
  return with_fingerprints(std::make_unique<MpiSum>(std::move(members), deadlines));
}

}  // namespace syncbn::comm::mpi
