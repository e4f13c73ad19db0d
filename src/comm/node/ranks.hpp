// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/internal_api.hpp"

#include "comm/group/transport.hpp"
#include "comm/node/areas.hpp"
#include "comm/node/shared.hpp"

namespace syncbn::comm::node {

/// Says which members of a node contribute values and get their sums, and which members sum slices
/// of them for all. Both are ranges of members, which may have some in common or none.
struct Roles {
  std::size_t contributors;       ///< how many contribute: member 0 and those that follow
  std::size_t first_reducer = 0;  ///< the first member that sums a slice of every piece
  /// How many sum slices. With 0 each contributor sums all values or a slice for all, whichever is
  /// faster for a piece's length.
  std::size_t reducers = 0;
};

/// Gives one member of a node access to the areas of all (shared.hpp), and interprets them. Members
/// that contribute are ranks of a group.
class Ranks {
 public:
  /// `areas` are in the order of the members, this one's at `self`. `names` are the contributors'
  /// ranks in the group.
  SYNCBN_INTERNAL_API Ranks(std::shared_ptr<const Areas> areas, std::size_t self,
                            std::vector<int> names, Roles roles);
  /// Makes every member a contributor, and none a reducer of every piece.
  Ranks(std::shared_ptr<const Areas> areas, std::size_t self, std::vector<int> names);

  std::size_t size() const { return areas_.size(); }
  std::size_t self() const { return self_; }
  const Roles& roles() const { return roles_; }
  bool contributes(std::size_t member) const { return member < roles_.contributors; }
  bool contributes() const { return contributes(self_); }
  std::span<Area* const> areas() const { return areas_; }
  std::span<Area* const> contributors() const { return areas().first(roles_.contributors); }
  Area& operator[](std::size_t member) const { return *areas_[member]; }
  Area& own() const { return *areas_[self_]; }

  /// Sets one of this member's signals to a number of pieces.
  void announce(Signal& signal, std::uint64_t pieces) const {
    signal.set(static_cast<std::uint32_t>(pieces), own().sleepers);
  }
  /// Returns whether all contributors have posted a piece.
  bool all_posted(std::uint64_t piece) const {
    return std::ranges::all_of(contributors(), [piece](const Area* area) {
      return beyond(area->posted.word.load(std::memory_order_acquire), piece);
    });
  }
  /// Returns the message of a piece that all have posted, as the first contributor describes it in
  /// its flight record, where the texts are.
  Message message_of(std::uint64_t piece) const;

  /// Returns "rank 3", by the rank in the group, or "the reducer" for one that does not contribute.
  std::string name(std::size_t member) const;

  /// Throws CommError, with what each rank was doing, unless all have this fingerprint beside a
  /// piece that all have posted; also throws as the next function does.
  void require_agreement(std::uint64_t fingerprint, std::uint64_t piece) const;
  /// Throws CommError if a member has given up before it was done with a piece.
  void require_nobody_gave_up(std::uint64_t piece) const;

  /// Returns "; the last it did: ..." on a contributor and, if it has refused a call after that,
  /// why;
  /// "" for others.
  std::string last_words(std::size_t member) const;

  /// Returns whether this process is the member, and not one that was forked from it.
  bool is_this_process() const noexcept;

  /// Records why this rank has refused a call, for the other ranks' `last_words`.
  void refuse(std::string_view why) const noexcept;
  // These tell members that wait for this one that it will not come. In a process that was forked
  // from the member they do nothing, as the member itself goes on.
  void give_up(std::string_view why) const noexcept;
  void leave() const noexcept;

 private:
  void wake_all() const noexcept;

  std::shared_ptr<const Areas> memory_;
  std::vector<Area*> areas_;
  std::size_t self_;
  std::vector<int> names_;
  Roles roles_;
};

}  // namespace syncbn::comm::node
