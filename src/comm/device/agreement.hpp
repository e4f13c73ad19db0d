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

#include "comm/device/board.hpp"
#include "comm/group/descriptor.hpp"

namespace syncbn::comm {

/// Does the host's bookkeeping for messages that are summed on devices: agrees with the other ranks
/// on each kind of message before its first use and, after a failure, finds out with them what went
/// wrong. Communicates only then, over a host communicator of the same ranks.
class Agreement {
 public:
  /// `bootstrap` has the same ranks as the devices' group. `board` must outlive this object.
  Agreement(Communicator bootstrap, const Board& board);

  /// A message of a kind that all ranks have agreed on. A kind is a descriptor, without the
  /// values of its facts, and a length.
  struct Plan {
    std::uint64_t number = 0;       ///< of the kind: 0, 1, ... in order of first use
    std::uint64_t fingerprint = 0;  ///< of descriptor, facts included, and length
  };

  /// Returns the plan of a message that is about to be put on the device. Collective for the first
  /// message of each kind: throws CommError if the ranks do not begin the same one, or one is
  /// missing.
  Plan admit(const Descriptor& what, std::size_t length);

  /// Throws CommError if a message has failed. The first time this is collective: a roll call (an
  /// all-gather of what each rank is doing, roll_call.hpp) finds out why.
  void poll();

  /// Records that what was put on the device will not be finished. The first reason counts. Any
  /// thread may call this.
  void fail(std::string_view why);

  /// Returns whether `fail` has been called. Any thread may call this.
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  /// Describes the message begun last: "rank 1 of 4, delivery of 'apples' (n=64, f32)". Any thread
  /// may call this.
  std::string describe_started() const;

 private:
  struct Known {
    std::string subject;
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
  std::unordered_map<std::uint64_t, std::uint64_t> numbers_;  ///< of plans, by kind's fingerprint
  std::string failure_;                                       ///< "" until a call has thrown

  mutable std::mutex mutex_;  ///< guards what follows, which several threads use
  std::deque<Known> plans_;
  std::string reason_;
  std::atomic<bool> failed_{false};
};

}  // namespace syncbn::comm
