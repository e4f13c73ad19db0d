// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace syncbn::comm::node {

using Word = std::atomic<std::uint32_t>;

/// A word that others wait for to change, in memory that processes may share.
///
/// How many of them are asleep stands elsewhere: the line of the word goes to whoever looks at it
/// as soon as it is written, and to look there for sleepers would bring it back, some 30 ns for
/// every exchange.
struct Signal {
  Word word{0};

  /// What was written before is seen by those who see the value. A sleeper that comes at the same
  /// moment may be missed: putting the store before the load, for all to see, would cost every
  /// exchange a fence, and a sleep is short.
  void set(std::uint32_t value, const Word& sleepers) {
    word.store(value, std::memory_order_release);
    if (sleepers.load(std::memory_order_relaxed) != 0) {
      wake();
    }
  }
  void wake();
  /// Sleeps until the word is no longer `seen`, or somebody wakes us, or for `at_most`.
  void sleep(std::uint32_t seen, std::chrono::microseconds at_most, Word& sleepers);
};

/// How to wait a little longer each time: look again at once, let others run, sleep.
class Patience {
 public:
  /// `yields`: lets others run from the first turn on, as where there are more ranks than
  /// processors and the one waited for may need ours.
  explicit Patience(bool yields) : yields_(yields) {}

  /// One turn of waiting for the signal to leave `seen`. Returns whether so much time has passed
  /// that it does not matter how long the caller takes for a look at the clock.
  bool turn(Signal& signal, std::uint32_t seen, Word& sleepers);
  /// One turn of waiting for something that no signal tells.
  bool turn();

 private:
  bool spin_or_yield();

  bool yields_;
  int turns_ = 0;
};

}  // namespace syncbn::comm::node
