// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/node/ranks.hpp"
#include "comm/node/shared.hpp"

namespace syncbn::comm::node {

/// Knows in which cell of shared memory each piece of a message lies, and adds pieces up: in rank
/// order, so that all ranks get the same bits.
///
/// Two ranks trade their cells if each reads all values. A rank then writes its next message where
/// it has read the other's: those cache lines are in its cache by then, so every line moves between
/// the caches once per message. If each rank kept its cells, a line would move twice: to be read,
/// and to be written again.
///
/// Trading also makes it unnecessary to look whether there is room. Once this rank has the sum of
/// piece e, the other rank must have posted e, and so must have had the sum of e - depth. Both have
/// therefore read the cell that piece e + depth overwrites, and neither reads the fingerprint of
/// e - depth any more.
class Cells {
 public:
  /// `ranks` must outlive this object. `trade` is for two contributors that never use
  /// `add_up_slice`.
  Cells(const Ranks& ranks, bool trade) : ranks_(ranks), trade_(trade) {}

  bool trade() const { return trade_; }

  /// Copies this rank's values of a piece into the cell for it.
  void put(std::uint64_t piece, std::span<const double> values) const;

  /// Replaces `values`, which this rank has put, by the sum over all ranks.
  void add_up(std::uint64_t piece, std::span<double> values) const;

  /// Adds up `size` values of a piece from number `begin` on, and returns the sum, which lies in
  /// this member's `slices` for the others to read.
  std::span<double> add_up_slice(std::uint64_t piece, std::size_t begin, std::size_t size) const;

  /// Prefetches the cell of a piece that is still to be put, from the caches of the ranks that have
  /// read it. So the next message can be written at once. Does nothing where cells are traded.
  void claim(std::uint64_t piece, std::size_t values) const;

 private:
  Cell& cell(std::size_t rank, std::uint64_t piece) const;
  void add_other(std::uint64_t piece, std::span<double> values) const;
  void add_all(std::uint64_t piece, std::size_t from, std::span<double> to) const;

  const Ranks& ranks_;
  bool trade_;
};

}  // namespace syncbn::comm::node
