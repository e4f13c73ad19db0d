// SPDX-License-Identifier: Apache-2.0
#include "syncbn/communicator.hpp"

#include <algorithm>

#include "comm/group.hpp"

namespace syncbn {

Communicator::Communicator(std::shared_ptr<comm::Group> group) : group_(std::move(group)) {}

int Communicator::rank() const {
  return group_->rank();
}
int Communicator::size() const {
  return group_->size();
}
Counters Communicator::counters() const {
  return group_->counters();
}

void Communicator::all_reduce(std::span<double> data) const {
  group_->exchange({.channels = static_cast<std::int64_t>(data.size())}, data);
}

std::vector<double> Communicator::all_gather(std::span<const double> mine) const {
  std::vector<double> all(mine.size() * static_cast<std::size_t>(size()), 0.0);
  std::ranges::copy(mine, all.begin() + static_cast<std::ptrdiff_t>(mine.size()) * rank());
  group_->exchange(
      {.pass = comm::Pass::all_gather, .channels = static_cast<std::int64_t>(all.size())}, all);
  return all;
}

Communicator Communicator::split(int color) const {
  return Communicator(group_->split(color));
}

}  // namespace syncbn
