// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/node/areas.hpp"
#include "comm/node/shared.hpp"

namespace syncbn::comm::node {

/// Gives one rank of a node access to the areas of all (shared.hpp), and interprets them.
class Ranks {
 public:
  /// `areas` are in the order of the ranks, this rank's at `self`. `names` are the ranks' numbers
  /// in the group.
  Ranks(std::shared_ptr<const Areas> areas, int self, std::vector<int> names);

  std::size_t size() const { return areas_.size(); }
  std::size_t self() const { return self_; }
  std::span<Area* const> areas() const { return areas_; }
  Area& operator[](std::size_t rank) const { return *areas_[rank]; }
  Area& own() const { return *areas_[self_]; }
  /// Returns "rank 3", by the rank's number in the group.
  std::string name(std::size_t rank) const;

  /// Throws CommError, with what each rank was doing, unless all have this fingerprint beside a
  /// piece that all have posted; also throws as the next function does.
  void require_agreement(std::uint64_t fingerprint, std::uint64_t piece) const;
  /// Throws CommError if a rank has given up before it had the sum of a piece.
  void require_nobody_gave_up(std::uint64_t piece) const;

  /// Returns "; the last it did: ..." on a rank and, if it has refused a call after that, why.
  std::string last_words(std::size_t rank) const;

  /// Returns whether this process is the rank, and not one that was forked from it.
  bool is_this_process() const noexcept;

  /// Records why this rank has refused a call, for the other ranks' `last_words`.
  void refuse(std::string_view why) const noexcept;
  // These tell ranks that wait for this one that it will not come. In a process that was forked
  // from the rank they do nothing, as the rank itself goes on.
  void give_up(std::string_view why) const noexcept;
  void leave() const noexcept;

 private:
  void wake_all() const noexcept;

  std::shared_ptr<const Areas> memory_;
  std::vector<Area*> areas_;
  std::size_t self_;
  std::vector<int> names_;
};

}  // namespace syncbn::comm::node
