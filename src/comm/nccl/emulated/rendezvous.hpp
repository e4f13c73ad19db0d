// SPDX-License-Identifier: Apache-2.0
#pragma once

// The ranks of an emulated communicator meet in memory that they share. Each has a seat there, with
// two lanes: one for the messages that are summed, one for what ranks tell each other to make and
// split communicators. They may be used at the same time.
//
// In a lane ranks take turns, all in the same order. In turn t a rank writes what it has to say to
// cell t % 2, posts t, and reads all ranks' cells once all have posted t. It may write to the cell
// again in turn t + 2, as all have posted t + 1 by then, and so have read turn t.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "core/shared_memory.hpp"

namespace syncbn::comm::nccl::emulated {

inline constexpr std::size_t most_ranks = 64;
inline constexpr std::size_t piece_length = 2048;  ///< [values] that a rank posts in one turn

template <class Cell>
struct Lane {
  alignas(64) std::atomic<std::uint64_t> posted;
  alignas(64) std::array<Cell, 2> cells;
};

/// What a rank tells the others while communicators are made.
struct Notice {
  int color;
  int key;
  std::array<char, 112> address;  ///< of a new communicator's memory, or ""
};

struct Seat {
  Lane<Notice> notices;
  Lane<std::array<double, piece_length>> values;
};

/// One rank's access to the memory. A turn ends early, and returns false, once the rank has given
/// up, which other ranks are not told. One thread at a time uses each lane.
class Rendezvous {
 public:
  /// Takes seat `rank` of `size` in memory that has seats for all of them and is zero at first.
  Rendezvous(SharedMemory memory, int rank, int size);

  static std::size_t bytes_for(std::size_t ranks) { return ranks * sizeof(Seat); }

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Collective. Tells all ranks `own`, and sets all[r] to what rank r tells.
  [[nodiscard]] bool tell(const Notice& own, std::span<Notice> all);
  /// Collective. Writes to `sum` the sum over the ranks, in their order, of `values`, as long,
  /// which may be the same memory.
  [[nodiscard]] bool sum(std::span<const double> values, std::span<double> sum);

  /// Waits until a condition holds, or returns false once the rank has given up. Lets other threads
  /// run meanwhile, and if that lasts sleeps, a little longer each time.
  [[nodiscard]] bool wait_for(const std::function<bool()>& holds) const;

  /// Ends the turns and waits of this rank, present and future. Any thread may call this.
  void give_up() { gave_up_.store(true); }

 private:
  Seat& seat(int rank) const;
  /// Waits until all ranks have posted this turn.
  template <class Cell>
  bool all_posted(Lane<Cell> Seat::*lane, std::uint64_t turn) const;

  SharedMemory memory_;
  int rank_;
  int size_;
  std::atomic<bool> gave_up_{false};
};

}  // namespace syncbn::comm::nccl::emulated
