// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the ranks of a node share: one Area each, side by side. A rank writes to its own and reads
// the others', but for the cells that two ranks trade (Cells) and the number of sleepers.
//
// A message travels in pieces of up to `piece_length` values, numbered from 0 through the life of
// the group; piece e lies in cell e mod `depth`. Counters are numbers of pieces, modulo 2^32. A
// rank may reuse a cell when every rank has the sum of the piece that was there (of two ranks, see
// Cells).

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sched.h>
#include <span>
#include <string_view>

#include "comm/flight_record.hpp"
#include "comm/node/shared_text.hpp"
#include "comm/node/wait.hpp"

namespace syncbn::comm::node {

inline constexpr std::size_t piece_length = 4224;  ///< holds a forward of 2048 channels [doubles]
inline constexpr std::size_t depth = 3;
/// So many pieces keep their sequence number and fingerprint readable. A rank that trades cells
/// (Cells) may post `depth` pieces beyond those that it has the sums of, which may be `depth`
/// beyond those of the other rank.
inline constexpr std::size_t stamps = 2 * depth;
inline constexpr std::size_t line = 64;  ///< bytes of a cache line; a cell is made of whole ones

using Cell = std::array<double, piece_length>;

enum class State : std::uint32_t { here, left, gave_up };

struct alignas(line) Area {
  // The line that the others look at: all that there is to know but the values.
  alignas(line) Signal posted;  ///< pieces
  std::atomic<State> state{State::here};
  std::array<std::uint64_t, stamps> fingerprints{};  ///< of its messages, piece e's at e mod stamps
  alignas(line) Signal delivered;                    ///< pieces whose sum the rank has
  alignas(line) Signal gathered;                     ///< pieces of which its slice is summed
  /// How many ranks sleep on any of these. One that dies asleep leaves it above 0, which costs a
  /// call of the system each time that one of these is set.
  alignas(line) Word sleepers{0};

  // Who it is, written once.
  alignas(line) std::int64_t process = 0;
  std::uint64_t process_space = 0;  ///< in which its number means something
  cpu_set_t processors{};           ///< that it may run on
  std::array<char, 4096> why{};     ///< it gave up; zero-terminated, valid once `state` says so
  SharedText<1024> waits_for;       ///< ranks of other nodes, while it does; else ""
  SharedText<512> refused;          ///< why it refused its last collective call, ...
  std::atomic<std::int64_t> refused_after{-1};  ///< ... and the last message before; -1: never

  std::array<std::int64_t, stamps> sequences{};  ///< numbers of its messages, as the fingerprints
  alignas(line) std::array<Cell, depth> cells;   ///< what is sent
  alignas(line) std::array<Cell, depth> slices;  ///< what it has summed for the others
  FlightRecord flight_record;
};
static_assert(offsetof(Area, delivered) == line);

/// Whether the counter has gone beyond piece e.
inline bool beyond(std::uint32_t counter, std::uint64_t piece) {
  return static_cast<std::int32_t>(counter - static_cast<std::uint32_t>(piece)) > 0;
}

/// Fills in who this process is.
void introduce(Area& own);

/// Whether the node has fewer processors for these ranks than there are ranks.
bool crowded(std::span<Area* const> areas);

/// Copies the characters that fit, and a 0 behind them.
void write_text(std::span<char> to, std::string_view text);

/// "has ended", "is stopped", ... of a rank's process; "" if nothing can be said, such as for a
/// thread of this one. `ended` tells the first from the rest.
struct Health {
  std::string_view text;
  bool ended = false;
};
Health health(const Area& area);

}  // namespace syncbn::comm::node
