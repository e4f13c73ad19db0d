// SPDX-License-Identifier: Apache-2.0
#pragma once

// The members of a node share memory in which each has an Area: the ranks, which contribute values
// and get sums, and reducers, which may be ranks or not (Roles in ranks.hpp). A member writes to
// its own area and reads the others'; it writes to another's only where two ranks trade cells
// (Cells) and to count sleepers.
//
// A message travels in pieces of up to `piece_length` values, numbered from 0 through the life of
// the group; piece e lies in cell e mod `depth`. Counters are numbers of pieces, modulo 2^32. A
// rank may reuse a cell when every rank has the sum of the piece that was there, since all who add
// it up have read the cell by then (two ranks that trade: see Cells).

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sched.h>
#include <span>
#include <string_view>

#include "comm/group/flight_record.hpp"
#include "comm/node/shared_text.hpp"
#include "comm/node/wait.hpp"

namespace syncbn::comm::node {

inline constexpr std::size_t piece_length = 4224;  ///< the longest message in one piece [doubles]
inline constexpr std::size_t depth = 3;            ///< cells of a rank
/// How many pieces keep their sequence number and fingerprint readable. A rank that trades cells
/// (Cells) may be `depth` pieces ahead of those that it has the sums of, and these may be `depth`
/// ahead of those that the other rank has the sums of.
inline constexpr std::size_t stamps = 2 * depth;
inline constexpr std::size_t line = 64;  ///< bytes of a cache line; a cell is made of whole ones

using Cell = std::array<double, piece_length>;

enum class State : std::uint32_t { here, left, gave_up };

struct alignas(line) Area {
  // Every exchange reads this cache line of the others: all that there is to know but the values.
  alignas(line) Signal posted;  ///< number of pieces whose values are in a cell
  std::atomic<State> state{State::here};
  std::array<std::uint64_t, stamps> fingerprints{};  ///< of its messages; piece e's at e mod stamps
  alignas(line) Signal delivered;                    ///< number of pieces whose sum the rank has
  alignas(line) Signal gathered;                     ///< number of pieces whose slice it has summed
  /// The number of ranks that sleep until one of these three signals is set. A rank that dies
  /// asleep leaves it above 0, so that from then on each `set` costs a system call.
  alignas(line) Word sleepers{0};

  // These say which process the rank is, and are written once (introduce).
  alignas(line) std::int64_t process = 0;
  std::uint64_t process_space = 0;  ///< PID namespace of `process`; 0: unknown
  cpu_set_t processors{};           ///< on which it may run
  std::array<char, 4096> why{};     ///< why it gave up; zero-terminated, valid once `state` says so
  SharedText<1024> waits_for;       ///< the ranks of other nodes that it waits for; "": none
  SharedText<512> refused;          ///< why it refused its last collective call, ...
  std::atomic<std::int64_t> refused_after{-1};  ///< ... after which message; -1: never

  std::array<std::int64_t, stamps> sequences{};  ///< of its messages, placed as the fingerprints
  alignas(line) std::array<Cell, depth> cells;   ///< values that ranks post
  alignas(line) std::array<Cell, depth> slices;  ///< sums that this member, a reducer, has made
  FlightRecord flight_record;
};
static_assert(offsetof(Area, delivered) == line);

/// Returns whether the counter, a number of pieces modulo 2^32, includes piece number `piece`.
inline bool beyond(std::uint32_t counter, std::uint64_t piece) {
  return static_cast<std::int32_t>(counter - static_cast<std::uint32_t>(piece)) > 0;
}

/// Writes into `own` which process the calling rank is, and on which processors it may run.
void introduce(Area& own);

/// Returns whether these ranks may run on fewer processors than there are ranks.
bool crowded(std::span<Area* const> areas);

/// Copies whole characters of UTF-8 for as far as they fit, and a 0 behind them.
void write_text(std::span<char> to, std::string_view text);

/// Says of a rank's process "has ended", "is stopped" or "is alive"; "" if nothing can be said,
/// such as for a thread of this process. `ended` is true for the first.
struct Health {
  std::string_view text;
  bool ended = false;
};
Health health(const Area& area);

}  // namespace syncbn::comm::node
