// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>

#include "syncbn/communicator.hpp"

#include "comm/board.hpp"
#include "comm/descriptor.hpp"

namespace syncbn::comm {

/// What the hosts of a group make of their devices' messages: which there are, and when one failed,
/// why. Talks over a communicator of the same ranks, at a kind of message's first use and after a
/// failure only.
class Agreement {
 public:
  /// The board outlives it.
  Agreement(Communicator bootstrap, const Board& board);

  /// A kind of message that all ranks know.
  struct Plan {
    std::uint64_t number = 0;
    std::uint64_t fingerprint = 0;  ///< of descriptor and length
  };

  /// Before a message is put on the device. Collective when it is the first of its descriptor (but
  /// what `shared` says) and length, which the ranks must have in common; throws CommError if they
  /// do not.
  Plan admit(const Descriptor& what, std::size_t length);

  /// Throws CommError if a message has failed: the first time, after a roll call.
  void poll();

  /// From any thread: what was put on the device will not be finished. The first reason counts.
  void fail(std::string_view why);

  /// From any thread.
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  /// From any thread: "rank 1 of 4, forward of 'bn1' (C=64, f32)", of the message begun last.
  std::string describe_started() const;

 private:
  struct Known {
    std::string layer;
    std::string options;
    Descriptor what;
    std::uint64_t fingerprint = 0;
  };

  std::uint64_t add(std::uint64_t kind, const Descriptor& what, std::uint64_t fingerprint);
  std::string heading(const Descriptor& what) const;
  Known known(std::uint64_t plan) const;
  [[noreturn]] void conclude(const Descriptor& what, std::string why);
  void find_out_why();

  Communicator bootstrap_;
  const Board& board_;
  std::int64_t calls_ = 0;
  std::unordered_map<std::uint64_t, std::uint64_t> numbers_;  ///< of plans, by kind
  std::string failure_;                                       ///< once concluded

  mutable std::mutex mutex_;  ///< what follows is for several threads
  std::deque<Known> plans_;
  std::string reason_;
  std::atomic<bool> failed_{false};
};

}  // namespace syncbn::comm
