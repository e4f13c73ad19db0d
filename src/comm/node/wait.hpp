// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace syncbn::comm::node {

using Word = std::atomic<std::uint32_t>;

/// A word that others wait for to change, in memory that processes may share, and how many of them
/// are asleep.
struct Signal {
  Word word{0};
  Word sleepers{0};

  void set(std::uint32_t value) {
    word.store(value);
    if (sleepers.load() != 0) {  // after the store, in the one order of all threads
      wake();
    }
  }
  void wake();
  /// Sleeps until the word is no longer `seen`, or somebody wakes us, or for `at_most`.
  void sleep(std::uint32_t seen, std::chrono::microseconds at_most);
};

/// How to wait a little longer each time: look again at once, let others run, sleep.
class Patience {
 public:
  /// `crowded`: there are more ranks than processors, so that the one waited for may need ours.
  explicit Patience(bool crowded) : crowded_(crowded) {}

  /// One turn of waiting for the signal to leave `seen`. Returns whether so much time has passed
  /// that it does not matter how long the caller takes for a look at the clock.
  bool turn(Signal& signal, std::uint32_t seen);
  /// One turn of waiting for something that no signal tells.
  bool turn();

 private:
  bool spin_or_yield();

  bool crowded_;
  int turns_ = 0;
};

}  // namespace syncbn::comm::node
