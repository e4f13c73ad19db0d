// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "syncbn/communicator.hpp"

#include "comm/group/deadline_clock.hpp"
#include "comm/node/cells.hpp"
#include "comm/node/network.hpp"
#include "comm/node/ranks.hpp"

namespace syncbn::comm::node {

/// Sums its slice of every piece for the contributors of a node (exchange.hpp) without being one of
/// them: a process or thread apart, which posts nothing and gets no sums. It learns from the
/// contributors' areas and flight records what they sum.
class Reducer {
 public:
  /// `ranks.self()` is a reducer and no contributor. If there are other nodes, `network` connects
  /// it with their reducers. `deadlines` are those of the contributors.
  Reducer(Ranks ranks, Deadlines deadlines, std::unique_ptr<Network> network = nullptr);
  Reducer(const Reducer&) = delete;
  Reducer& operator=(const Reducer&) = delete;
  /// Tells contributors that still wait for this reducer that it has left.
  ~Reducer();

  /// Does what can be done now, and returns whether that was anything. Never waits; to be called
  /// again and again. Throws CommError if contributors or nodes disagree, or one of them has given
  /// up; no more can be summed then.
  bool advance();

  /// Tells contributors and other nodes that no more will be summed.
  void give_up(std::string_view why) noexcept;

 private:
  bool reduce();
  bool gather();
  void begin_message();

  Ranks ranks_;
  Cells cells_;
  std::unique_ptr<Network> network_;
  WaitsFor waits_for_;
  DeadlineClock wait_;  ///< for other nodes; its deadlines are not looked at

  Message message_;             ///< that piece number reduced_ belongs to, once begun
  std::uint64_t first_ = 0;     ///< number of the first piece of message_
  std::uint64_t end_ = 0;       ///< number of the first piece behind message_
  std::uint64_t reduced_ = 0;   ///< pieces whose slice is added up over this node
  std::uint64_t gathered_ = 0;  ///< pieces whose slice is added up over all nodes
};

}  // namespace syncbn::comm::node
