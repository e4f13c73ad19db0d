// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/mpi/handles.hpp"

namespace syncbn::comm::mpi {

/// Says what a message between members is for. Each kind has a tag of its own.
enum class Kind : int {
  sum = 0,       ///< a piece's values; takes the tags up to sum + sums - 1
  gather = 8,    ///< a record for a meeting's first member
  answer = 9,    ///< the first member's answer
  dispute = 10,  ///< a record for a meeting on what the members disagree on
  verdict = 11,  ///< the first member's answer in that meeting
  notice = 15    ///< see Notices
};
/// So many messages with tags for sums may be under way between two members at the same time.
inline constexpr int sums = 8;

/// Numbers some ranks of a communicator from 0, and gives their messages tags of their own, 16 to a
/// group (a lane). So a group of some ranks needs no communicator of its own, which MPI could only
/// make in a call that waits, without a deadline, for every one of them.
///
/// The communicator is freed with the last of its groups, unless it has been abandoned.
class Members {
 public:
  /// Makes all ranks of the communicator members, under the tags of lane 0.
  explicit Members(OwnedComm comm);

  /// Returns some of these members, ascending and numbered anew, under the tags of `lane`: a number
  /// that no group with any of these ranks has had before. Throws CommError when MPI has no more
  /// tags.
  Members part(const std::vector<int>& members, int lane) const;
  /// Returns some of these members, ascending, under the same tags, for kinds of messages that the
  /// whole group does not send.
  Members among(const std::vector<int>& members) const;

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(ranks_.size()); }
  /// Returns the number that a member has in its group. It differs from `member` only in what
  /// `among` returns, whose group is the whole one.
  int number(int member) const { return numbers_[static_cast<std::size_t>(member)]; }
  /// Returns "rank 3" or "ranks 0-2, 5" for ascending members.
  std::string name(const std::vector<int>& members) const;

  MPI_Comm comm() const { return root_->comm.get(); }
  int in_comm(int member) const { return ranks_[static_cast<std::size_t>(member)]; }
  /// Returns the member that has this rank in the communicator.
  int member(int rank_in_comm) const;
  int tag(Kind kind) const { return first_tag_ + static_cast<int>(kind); }

  /// Returns the lowest lane above all that this rank has used. The highest over the members can be
  /// given to `part`.
  int next_lane() const { return root_->next_lane; }

  /// Never frees the communicator, because messages may still come there.
  void abandon() { root_->comm.abandon(); }
  /// Tells whether MPI can be called, see OwnedComm.
  bool usable() const { return root_->comm.usable(); }

 private:
  struct Root {
    explicit Root(OwnedComm of_all) : comm(std::move(of_all)) {}

    OwnedComm comm;
    int next_lane = 1;
  };

  std::shared_ptr<Root> root_;
  std::vector<int> ranks_;    ///< by member: its rank in the communicator
  std::vector<int> numbers_;  ///< by member: its number in the group
  int rank_ = 0;
  int first_tag_ = 0;
};

}  // namespace syncbn::comm::mpi
