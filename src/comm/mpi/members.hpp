// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/mpi/handles.hpp"

namespace syncbn::comm::mpi {

/// What a message between members is for. Each kind has a tag of its own.
enum class Kind : int {
  sum = 0,       ///< ..., sum + sums - 1
  gather = 8,    ///< see Meeting
  answer = 9,    ///< likewise
  dispute = 10,  ///< a meeting on what the members disagree on
  verdict = 11,  ///< its answer
  notice = 15    ///< see Notices
};
/// Messages with these tags may be under way between two members at the same time.
inline constexpr int sums = 8;

/// Some ranks of a communicator, numbered from 0, who send each other messages under tags of their
/// own. So a group of some ranks needs no communicator, which MPI could only make in a call that
/// waits for as long as one of them does not come.
///
/// The communicator is freed with the last of its groups, unless it has been abandoned.
class Members {
 public:
  /// All ranks of the communicator.
  explicit Members(OwnedComm comm);

  /// Some of these, ascending, under the tags of `lane`, a number that no group with any of these
  /// ranks has had before. Throws CommError when MPI has no more tags.
  Members part(const std::vector<int>& members, int lane) const;
  /// Some of these, ascending, under the same tags: for kinds of messages that these do not send.
  Members among(const std::vector<int>& members) const;

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(ranks_.size()); }
  /// The number of a member in the group whose part, or among whom, it is.
  int number(int member) const { return numbers_[static_cast<std::size_t>(member)]; }
  /// "rank 3", "ranks 0-2, 5" of ascending members.
  std::string name(const std::vector<int>& members) const;

  MPI_Comm comm() const { return root_->comm.get(); }
  int in_comm(int member) const { return ranks_[static_cast<std::size_t>(member)]; }
  /// The member that the communicator's rank is.
  int member(int rank_in_comm) const;
  int tag(Kind kind) const { return first_tag_ + static_cast<int>(kind); }

  /// A number to give to `part`, if all its members have no higher one.
  int next_lane() const { return root_->next_lane; }

  /// Leaves the communicator to MPI in the end: messages may still come there.
  void abandon() { root_->comm.abandon(); }
  /// Whether MPI can be called, see OwnedComm.
  bool usable() const { return root_->comm.usable(); }

 private:
  struct Root {
    explicit Root(OwnedComm of_all) : comm(std::move(of_all)) {}

    OwnedComm comm;
    int next_lane = 1;
  };

  std::shared_ptr<Root> root_;
  std::vector<int> ranks_;    ///< in the communicator
  std::vector<int> numbers_;  ///< in the group
  int rank_ = 0;
  int first_tag_ = 0;
};

}  // namespace syncbn::comm::mpi
