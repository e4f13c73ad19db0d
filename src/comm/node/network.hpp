// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "syncbn/communicator.hpp"

#include "comm/group/transport.hpp"
#include "comm/node/shared.hpp"

namespace syncbn::comm::node {

/// Connects a reducer with those of the same slice on other nodes, and sums over the nodes.
class Network {
 public:
  virtual ~Network() = default;

  /// Begins to sum over the nodes, in place, the `values` of this slice of piece number `piece`,
  /// which belongs to `message`. They must stay where they are until the piece is finished.
  virtual void start(const Message& message, std::uint64_t piece, std::span<double> values) = 0;

  /// Makes what progress can be made, and returns whether the oldest unfinished piece is summed; it
  /// is finished then. Throws CommError if the nodes disagree on it.
  virtual bool finished() = 0;

  /// Names the ranks of other nodes that the oldest unfinished piece waits for; then, in lines of
  /// their own, tells what calls they have refused.
  virtual std::string missing() = 0;

  /// Tells the other nodes why this one is late or, if `final`, why it has given up.
  virtual void tell(std::string_view what, bool final) noexcept = 0;

  /// Tells the other nodes why this rank has refused a call. Its last message before had the
  /// sequence number `last`.
  virtual void refuse(std::int64_t last, std::string_view why) noexcept = 0;

  /// Returns what other nodes have told of the oldest unfinished piece's message; "" if nothing.
  /// Throws CommError if one of them has given up.
  virtual std::string news() = 0;
};

/// Returns whom a network waits for, and what is known of them.
std::string whom_it_waits_for(Network& network);

/// Writes into a reducer's area whom it waits for on other nodes. The contributors of its node,
/// which see only that it is not done, read it when they report or fail.
class WaitsFor {
 public:
  /// `deadlines` are those of the contributors. The text is there a quarter of the shorter one
  /// after a wait has begun, and is looked after once in each further quarter.
  WaitsFor(Area& own, Deadlines deadlines)
      : own_(own), interval_(std::min(deadlines.report, deadlines.fail) / 4) {}

  /// Is called again and again during a wait for other nodes that has taken `waited` so far. Throws
  /// CommError if one of them has given up.
  void write(Network& network, std::chrono::steady_clock::duration waited);
  /// Ends the wait.
  void erase();

 private:
  Area& own_;
  std::chrono::steady_clock::duration interval_;
  std::chrono::steady_clock::duration next_{0};
  std::string text_;  ///< what is there; "" if nothing
};

}  // namespace syncbn::comm::node
