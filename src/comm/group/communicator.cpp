// SPDX-License-Identifier: Apache-2.0
#include "syncbn/communicator.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "syncbn/error.hpp"

#include "comm/group/group.hpp"
#include "comm/group/whole_number.hpp"

namespace syncbn {

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
  group_->exchange({.count = static_cast<std::int64_t>(data.size())}, data);
}

PendingSum Communicator::start(std::span<double> data) const {
  return group_->start({.count = static_cast<std::int64_t>(data.size())}, data);
}

void Communicator::finish(const PendingSum& sum) const {
  group_->finish({.count = static_cast<std::int64_t>(sum.length_)}, sum);
}

std::vector<double> Communicator::all_gather(std::span<const double> mine) const {
  // The others' places hold -0, since -0 + x is x for every x, whereas 0 + -0 is 0.
  std::vector<double> all(mine.size() * static_cast<std::size_t>(size()), -0.0);
  std::ranges::copy(mine, all.begin() + static_cast<std::ptrdiff_t>(mine.size()) * rank());
  group_->exchange(
      {.operation = &comm::operations::all_gather, .count = static_cast<std::int64_t>(all.size())},
      all);
  return all;
}

Communicator Communicator::split(int color) const {
  return Communicator(group_->split(color));
}

Communicator Communicator::split_by_samples(std::int64_t mine, std::int64_t samples) const {
  const double wanted = static_cast<double>(samples);
  const std::vector<double> all = all_gather(std::array{static_cast<double>(mine), wanted});
  const auto has = [&](int rank) { return all[2 * static_cast<std::size_t>(rank)]; };
  for (int rank = 0; rank < size(); ++rank) {
    const double theirs = all[2 * static_cast<std::size_t>(rank) + 1];
    const auto refuse = [&](const char* what, double value, const std::string& expected) {
      throw InvalidArgument("rank " + std::to_string(rank) + ' ' + what + ' ' +
                            std::to_string(comm::whole_number<std::int64_t>(value)) + " samples (" +
                            expected + ")");
    };
    constexpr double most = 9007199254740992.0;  // 2^53
    if (has(rank) > most || theirs > most) {
      throw InvalidArgument("rank " + std::to_string(rank) +
                            " speaks of more than 2^53 samples (beyond, they are not counted "
                            "exactly)");
    }
    comm::whole_number<std::int64_t>(has(rank));
    if (has(rank) < 0) {
      refuse("says it has", has(rank), "at least 0");
    }
    if (theirs < 1) {
      refuse("asks for groups of", theirs, "at least 1");
    }
    if (theirs != wanted) {
      refuse("asks for groups of", theirs,
             "this rank for " + std::to_string(samples) + "; all must ask for the same");
    }
  }
  // A group begins where the one before has enough, and what is left is enough for one more.
  double left = 0;
  for (int rank = 0; rank < size(); ++rank) {
    left += has(rank);
  }
  int group = 0;
  double in_group = 0;
  int own = 0;
  for (int rank = 0; rank < size(); ++rank) {
    if (in_group >= wanted && left >= wanted) {
      ++group;
      in_group = 0;
    }
    own = rank == this->rank() ? group : own;
    in_group += has(rank);
    left -= has(rank);
  }
  return split(own);
}

std::string Communicator::flight_record() const {
  return group_->flight_record();
}

}  // namespace syncbn
