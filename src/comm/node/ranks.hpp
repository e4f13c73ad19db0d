// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/node/shared.hpp"

namespace syncbn::comm::node {

/// The ranks of a node as one of them sees them: where their areas are, and what these tell.
class Ranks {
 public:
  /// `areas` in the order of the ranks, at `self` this one's; they outlive it. `names` are the
  /// ranks' numbers in the group.
  Ranks(std::span<Area* const> areas, int self, std::vector<int> names);

  std::size_t size() const { return areas_.size(); }
  std::size_t self() const { return self_; }
  std::span<Area* const> areas() const { return areas_; }
  Area& operator[](std::size_t rank) const { return *areas_[rank]; }
  Area& own() const { return *areas_[self_]; }
  /// "rank 3".
  std::string name(std::size_t rank) const;

  /// Throws CommError with what each was doing unless all have this fingerprint beside a piece.
  void require_agreement(std::uint64_t fingerprint, std::uint64_t piece) const;
  /// Throws CommError if a rank has given up before it had the sum of a piece.
  void require_nobody_gave_up(std::uint64_t piece) const;

  /// "; the last it did: ..." of a rank, and if it has refused a call since, why.
  std::string last_words(std::size_t rank) const;

  /// Whether it is the rank's and not one that was forked from it.
  bool is_this_process() const noexcept;

  /// For `last_words`.
  void refuse(std::string_view why) const noexcept;
  /// These tell ranks that wait for this one that it will not come, but in another process nothing:
  /// the rank goes on.
  void give_up(std::string_view why) const noexcept;
  void leave() const noexcept;

 private:
  void wake_all() const noexcept;

  std::vector<Area*> areas_;
  std::size_t self_;
  std::vector<int> names_;
};

}  // namespace syncbn::comm::node
