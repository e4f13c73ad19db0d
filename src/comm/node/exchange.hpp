// SPDX-License-Identifier: Apache-2.0
#pragma once

// Messages are summed through memory that the ranks of a node (one host) share, piece by piece:
//
//   each rank   copies a piece into a cell and counts it as posted
//   each rank   waits for all to have posted it, compares the fingerprints beside the values, and
//               adds the cells up in rank order: the same bits everywhere
//
// That takes one step of synchronization. As there are `depth` cells, a rank can write the next
// piece while others still read this one. But every rank reads all values, which is too much for
// many ranks or long messages. Then the reducers each take a slice of every piece:
//
//   reducers    add up their slice, over the nodes as well if there are several (Network), and
//               count it as gathered
//   each rank   collects the slices
//
// Ranks are contributors: they have values, and get the sums. Reducers are some of the ranks, or
// others that contribute nothing (reducer.hpp).

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

#include "core/internal_api.hpp"

#include "comm/group/deadline_clock.hpp"
#include "comm/group/transport.hpp"
#include "comm/node/cells.hpp"
#include "comm/node/network.hpp"
#include "comm/node/ranks.hpp"
#include "comm/node/shared.hpp"

namespace syncbn::comm::node {

/// Sums messages over the ranks of a node as one of them and, if it is a reducer, over other nodes
/// through its Network. The public functions are those of Transport.
class Exchange {
 public:
  /// `ranks.self()` is a contributor. If there are other nodes, `ranks.roles()` has reducers of
  /// every piece, and each of these has a `network`.
  SYNCBN_INTERNAL_API Exchange(Ranks ranks, Deadlines deadlines,
                               std::unique_ptr<Network> network = nullptr);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  /// Tells ranks that still wait for this one that it has left.
  SYNCBN_INTERNAL_API ~Exchange();

  SYNCBN_INTERNAL_API Transport::Ticket start(const Message& message, std::span<double> data);
  SYNCBN_INTERNAL_API bool arrived(Transport::Ticket ticket);
  SYNCBN_INTERNAL_API void finish(Transport::Ticket ticket);
  SYNCBN_INTERNAL_API void give_up(std::string_view why) noexcept;
  SYNCBN_INTERNAL_API void refuse(std::string_view why) noexcept;
  FlightRecord* flight_record() { return &ranks_.own().flight_record; }

 private:
  using Clock = std::chrono::steady_clock;

  /// A message under way.
  struct Job {
    Message message;
    std::span<double> data;
    std::uint64_t first = 0;   ///< number of its first piece
    std::uint64_t pieces = 0;  ///< how many it has
  };
  /// A range of members, each of which sums a slice of a piece.
  struct Reducers {
    std::size_t first = 0;
    std::size_t count = 0;  ///< 0: every contributor sums all values
  };
  /// What this rank waits for: the signal of a member to change, or, where `signal` is null, other
  /// nodes, of which no signal tells.
  struct Blocker {
    Signal* signal = nullptr;
    std::uint32_t seen = 0;  ///< value that the signal had
    std::size_t member = 0;  ///< whose signal it is
  };
  /// Keeps, for one wait, how long it is and what has been done about it.
  struct Watch {
    explicit Watch(Deadlines deadlines) : clock(deadlines) {}

    DeadlineClock clock;
    Clock::time_point begin = Clock::now();
    Clock::duration next_health_check{0};
    std::string reported;  ///< the exchange on which a report was made; "" if none
  };

  /// Returns whether this is the only rank of its node. Its values then go to the network from
  /// where they are.
  bool alone() const { return ranks_.size() == 1; }
  Job& job_at(Transport::Ticket ticket) { return jobs_[ticket & (jobs_.size() - 1)]; }
  Job& job_of(std::uint64_t piece, Transport::Ticket& cursor);
  static std::span<double> values_of(const Job& job, std::uint64_t piece);
  /// Returns who sums a piece of `values` values.
  Reducers reducers_of(std::size_t values) const;

  bool advance();
  bool post();
  void find_room();
  bool reduce();
  bool gather();
  bool deliver();
  /// Copies a piece's slices from where its reducers have made them.
  void collect(const Reducers& reducers, std::span<double> values);

  Blocker what_blocks();
  void look_around(const Blocker& blocker, Watch& watch);
  /// Returns who is missing and what is known of them; "" if they have come in the meantime.
  std::string missing(std::chrono::milliseconds waited);
  /// Returns whether a member of this node has still to do something for the piece that this one
  /// waits for.
  bool behind(std::size_t member, const Reducers& reducers, bool all_posted) const;
  /// Returns which ranks of other nodes are missing and what is known of them.
  std::string missing_elsewhere(std::chrono::milliseconds waited);
  /// If this rank waits for other nodes, tells the ranks of its node. Throws CommError if another
  /// node has given up.
  void tell_own_node(const Watch& watch);

  Ranks ranks_;
  Cells cells_;
  Deadlines deadlines_;
  std::unique_ptr<Network> network_;
  WaitsFor waits_for_;
  bool yields_;

  std::vector<Job> jobs_;             ///< a ring, its size a power of two
  Transport::Ticket next_ = 0;        ///< the ticket to be given out
  Transport::Ticket unfinished_ = 0;  ///< the oldest with pieces that are not delivered
  /// The jobs that the stages work on.
  Transport::Ticket posting_ = 0, reducing_ = 0, delivering_ = 0;

  // These count pieces through the life of the group. A rank without a slice of a piece counts it
  // as reduced and gathered, too.
  std::uint64_t pieces_ = 0;     ///< of all messages started
  std::uint64_t posted_ = 0;     ///< whose values are in a cell
  std::uint64_t reduced_ = 0;    ///< whose slice of this rank is added up over this node
  std::uint64_t gathered_ = 0;   ///< whose slice of this rank is added up over all nodes
  std::uint64_t delivered_ = 0;  ///< whose sum is in the data
  std::uint64_t room_ = depth;   ///< that may have been posted before the others' counters are read
};

}  // namespace syncbn::comm::node
