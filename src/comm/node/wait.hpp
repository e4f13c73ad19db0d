// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace syncbn::comm::node {

using Word = std::atomic<std::uint32_t>;

/// Holds a word, in memory that processes may share, for whose change others wait.
///
/// The number of sleepers is kept in another cache line than the word. Waiting ranks read the word
/// as soon as it is written; if the writer then looked for sleepers in the same line, the line
/// would have to come back, which takes some 30 ns in every exchange.
struct Signal {
  Word word{0};

  /// Sets the word and wakes sleepers. Whoever sees the value sees also what was written before it.
  /// A rank that goes to sleep at the same moment may not be woken: to order the store before the
  /// load would take a fence in every exchange, and a sleep is short (`at_most`).
  void set(std::uint32_t value, const Word& sleepers) {
    word.store(value, std::memory_order_release);
    if (sleepers.load(std::memory_order_relaxed) != 0) {
      wake();
    }
  }
  void wake();
  /// Sleeps until the word is no longer `seen`, somebody calls `wake`, or `at_most` has passed.
  void sleep(std::uint32_t seen, std::chrono::microseconds at_most, Word& sleepers);
};

/// Waits a little longer at each turn: first it spins, then lets other threads run, then sleeps.
class Patience {
 public:
  /// If `yields`, lets other threads run from the first turn on. This is for more ranks than
  /// processors, where the rank that is waited for may need this processor.
  explicit Patience(bool yields) : yields_(yields) {}

  /// Takes one turn of waiting for the signal to be no longer `seen`. Returns whether so much time
  /// has passed that the caller can afford to look at the clock.
  bool turn(Signal& signal, std::uint32_t seen, Word& sleepers);
  /// Takes one turn of waiting for something of which no signal tells. Never sleeps.
  bool turn();

 private:
  bool spin_or_yield();

  bool yields_;
  int turns_ = 0;
};

}  // namespace syncbn::comm::node
