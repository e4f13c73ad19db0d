// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/members.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "syncbn/error.hpp"

#include "comm/group/descriptor.hpp"

namespace syncbn::comm::mpi {
namespace {

constexpr int tags_of_lane = 16;

/// Returns the highest tag that MPI has, at least 32767.
int highest_tag(MPI_Comm comm) {
  void* value = nullptr;
  int known = 0;
  check(MPI_Comm_get_attr(comm, MPI_TAG_UB, &value, &known), "MPI_Comm_get_attr");
  return known != 0 ? *static_cast<int*>(value) : 32767;
}

std::vector<int> picked(const std::vector<int>& from, const std::vector<int>& places) {
  std::vector<int> some;
  for (const int place : places) {
    some.push_back(from[static_cast<std::size_t>(place)]);
  }
  return some;
}

std::vector<int> counted(int size) {
  std::vector<int> numbers(static_cast<std::size_t>(size));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

Members::Members(OwnedComm comm)
    : root_(std::make_shared<Root>(std::move(comm))),
      ranks_(counted(root_->comm.size())),
      numbers_(ranks_),
      rank_(root_->comm.rank()) {}

Members Members::part(const std::vector<int>& members, int lane) const {
  if (lane > (highest_tag(comm()) - (tags_of_lane - 1)) / tags_of_lane) {
    throw CommError("no tags are left for another group (MPI has " +
                    std::to_string(highest_tag(comm())) +
                    " of them, and the groups of one communicator take 16 each, also those that "
                    "are gone). Make a new communicator from MPI's.");
  }
  Members made = among(members);
  made.numbers_ = counted(made.size());
  made.first_tag_ = lane * tags_of_lane;
  root_->next_lane = std::max(root_->next_lane, lane + 1);
  return made;
}

Members Members::among(const std::vector<int>& members) const {
  Members made = *this;
  made.ranks_ = picked(ranks_, members);
  made.numbers_ = picked(numbers_, members);
  made.rank_ = static_cast<int>(std::ranges::find(members, rank_) - members.begin());
  return made;
}

std::string Members::name(const std::vector<int>& members) const {
  return list_ranks(picked(numbers_, members));
}

int Members::member(int rank_in_comm) const {
  return static_cast<int>(std::ranges::lower_bound(ranks_, rank_in_comm) - ranks_.begin());
}

}  // namespace syncbn::comm::mpi
