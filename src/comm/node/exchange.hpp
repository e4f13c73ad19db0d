// SPDX-License-Identifier: Apache-2.0
#pragma once

// Messages summed through memory that the ranks of a node share.
//
//   each rank   copies a piece into a cell and counts it as posted
//   each rank   waits for all to have posted it, compares the fingerprints beside the values, and
//               adds the cells up in rank order: the same bits everywhere
//
// That is one step of synchronization and nobody waits for anybody to read, since there are `depth`
// cells. It costs every rank a read of everything, too much for many ranks or long messages. Then
// some ranks own a slice each:
//
//   owners      add up their slice, over the nodes as well if there are several (Network), and
//               count it as gathered
//   each rank   collects the slices

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

#include "comm/deadline_clock.hpp"
#include "comm/node/cells.hpp"
#include "comm/node/ranks.hpp"
#include "comm/node/shared.hpp"
#include "comm/transport.hpp"

namespace syncbn::comm::node {

/// The owners of one slice on all nodes.
class Network {
 public:
  virtual ~Network() = default;

  /// Begins to sum `values` over the nodes in place: those of a slice of piece number `piece`,
  /// which belongs to `message`. They stay where they are until it is finished.
  virtual void start(const Message& message, std::uint64_t piece, std::span<double> values) = 0;

  /// Makes what progress can be made, and tells whether the oldest piece that was started and not
  /// told of yet is done. Throws CommError if the nodes disagree on it, or another has given up.
  virtual bool finished() = 0;

  /// Those ranks of other nodes that the oldest piece waits for; then lines of what is known of
  /// them.
  virtual std::string missing() = 0;

  /// Tells the other nodes something; `final`: that this one has given up.
  virtual void tell(std::string_view what, bool final) noexcept = 0;

  /// Tells the other nodes why this rank has refused a call after message number `last`.
  virtual void refuse(std::int64_t last, std::string_view why) noexcept = 0;

  /// What another node has told, "" if nothing.
  virtual std::string news() = 0;
};

/// One rank's end of the exchange.
class Exchange {
 public:
  /// Where there are other nodes, the first `owners` ranks have a network, and sum over the nodes;
  /// else it is 0.
  Exchange(Ranks ranks, Deadlines deadlines, int owners = 0,
           std::unique_ptr<Network> network = nullptr);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  /// Tells ranks that still wait for this one.
  ~Exchange();

  Transport::Ticket start(const Message& message, std::span<double> data);
  bool arrived(Transport::Ticket ticket);
  void finish(Transport::Ticket ticket);
  void give_up(std::string_view why) noexcept;
  void refuse(std::string_view why) noexcept;

 private:
  using Clock = std::chrono::steady_clock;

  /// A message under way.
  struct Job {
    Message message;
    std::span<double> data;
    std::uint64_t first = 0;  ///< its first piece
    std::uint64_t pieces = 0;
  };
  /// What a rank waits for: a signal of another, unless it is something that gives none.
  struct Blocker {
    Signal* signal = nullptr;
    std::uint32_t seen = 0;
    std::size_t rank = 0;
  };
  /// What has been done about a long wait.
  struct Watch {
    explicit Watch(Deadlines deadlines) : clock(deadlines) {}

    DeadlineClock clock;
    Clock::time_point begin = Clock::now();
    Clock::duration next_health_check{0};
    Clock::duration next_word{0};
    std::string reported;  ///< of what it was reported that somebody is missing
  };

  /// The only rank of its node, whose values go to the network from where they are.
  bool alone() const { return ranks_.size() == 1; }
  Job& job_at(Transport::Ticket ticket) { return jobs_[ticket & (jobs_.size() - 1)]; }
  Job& job_of(std::uint64_t piece, Transport::Ticket& cursor);
  static std::span<double> values_of(const Job& job, std::uint64_t piece);
  /// How many ranks sum a slice each; 0: every rank sums everything.
  std::size_t owners_of(std::size_t values) const;

  bool advance();
  bool post();
  void find_room();
  void announce(Signal& signal, std::uint64_t pieces);
  bool all_posted(std::uint64_t piece) const;
  bool reduce();
  bool gather();
  bool deliver();

  Blocker what_blocks();
  void look_around(const Blocker& blocker, Watch& watch);
  /// Who is missing, and what is known of them; "" if they have come in the meantime.
  std::string missing(std::chrono::milliseconds waited);
  /// Whether a rank of this node has still to do something for the piece that is waited for.
  bool behind(std::size_t rank, std::size_t owners, bool all_posted) const;
  /// Likewise, of ranks of other nodes.
  std::string missing_elsewhere(std::chrono::milliseconds waited);
  /// Leaves word for the ranks of this node: whom this one waits for on other nodes.
  void leave_word(Watch& watch);
  std::string whom_we_wait_for();
  void take_back_word();

  Ranks ranks_;
  Cells cells_;
  Deadlines deadlines_;
  std::size_t owners_;
  std::unique_ptr<Network> network_;
  bool yields_;
  std::string word_;  ///< that this rank has left

  std::vector<Job> jobs_;             ///< a ring, its size a power of two
  Transport::Ticket next_ = 0;        ///< the ticket to be given out
  Transport::Ticket unfinished_ = 0;  ///< the oldest that has pieces to be delivered
  /// The jobs that the stages are at.
  Transport::Ticket posting_ = 0, reducing_ = 0, gathering_ = 0, delivering_ = 0;

  std::uint64_t pieces_ = 0;  ///< of all messages started
  // How many pieces each stage has done, counted alike.
  std::uint64_t posted_ = 0;     ///< are in a cell
  std::uint64_t reduced_ = 0;    ///< have been added up over this node, if this rank has a slice
  std::uint64_t gathered_ = 0;   ///< likewise over all nodes
  std::uint64_t delivered_ = 0;  ///< have their sum in the data
  std::uint64_t room_ = depth;   ///< what may be posted as far as we know
};

}  // namespace syncbn::comm::node
