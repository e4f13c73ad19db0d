// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/node/ranks.hpp"
#include "comm/node/shared.hpp"

namespace syncbn::comm::node {

/// Where the pieces of messages lie, and how they are added up: in rank order, so that all ranks
/// get the same bits.
///
/// Two ranks that read everything trade their cells. Each writes its next message where it has read
/// the other's: those cache lines are its own by then, and every line travels once per message. In
/// cells that stay with their writer a line travels twice, to be read and to be written again.
///
/// Trading also makes it unnecessary to look whether there is room. Once this rank has the sum of
/// piece e, the other has posted e, and so had the sum of e - depth before. Both have therefore
/// read the cell that piece e + depth overwrites, and nobody looks at the fingerprint of e - depth
/// any more.
class Cells {
 public:
  /// `ranks` outlive it. `trade` is for two ranks that use `add_up` alone.
  Cells(const Ranks& ranks, bool trade) : ranks_(ranks), trade_(trade) {}

  bool trade() const { return trade_; }

  /// Puts this rank's values into its cell of a piece.
  void put(std::uint64_t piece, std::span<const double> values) const;

  /// `values`, which this rank has put there, become the sum of all ranks'.
  void add_up(std::uint64_t piece, std::span<double> values) const;

  /// The sum of the values from number `begin` on, into this rank's slice of the piece.
  std::span<double> add_up_slice(std::uint64_t piece, std::size_t begin, std::size_t size) const;

  /// Begins to take the cell of a piece to come back from the caches of those who have read it, so
  /// that the next message can be written at once.
  void claim(std::uint64_t piece, std::size_t values) const;

 private:
  Cell& cell(std::size_t rank, std::uint64_t piece) const;
  void add_other(std::uint64_t piece, std::span<double> values) const;
  void add_all(std::uint64_t piece, std::size_t from, std::span<double> to) const;

  const Ranks& ranks_;
  bool trade_;
};

}  // namespace syncbn::comm::node
