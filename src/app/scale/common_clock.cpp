// SPDX-License-Identifier: Apache-2.0
#include "app/scale/common_clock.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <limits>
#include <utility>
#include <vector>

#include "comm/group/flight_files.hpp"
#include "trainer/agreement.hpp"

namespace syncbn::app::scale {
namespace {

constexpr int rounds = 16;

Nanoseconds steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void wait(Nanoseconds time) {
  const Nanoseconds end = steady_now() + time;
  while (steady_now() < end) {
  }
}

/// Collective. Returns the lowest rank with the same text as this one.
double lowest_alike(const Communicator& group, const std::string& text) {
  const std::vector<std::string> all = trainer::gather_texts(group, text);
  return static_cast<double>(std::ranges::find(all, text) - all.begin());
}

/// Bounds hold what an offset is at least and at most. [ns]
struct Bounds {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
};

/// Returns the bounds for `kernel`'s offset to kernel 0. `entries` [round, rank] and `exits` [rank,
/// round] are local times, `kernels` [rank] says whose.
Bounds bounds(double kernel, const std::vector<double>& kernels,
              const std::vector<std::vector<double>>& entries, const std::vector<double>& exits) {
  Bounds found;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (std::size_t round = 0; round < rounds; ++round) {
    double last_here = -infinity, last_there = -infinity;  // entries
    double first_here = infinity, first_there = infinity;  // exits
    for (std::size_t rank = 0; rank < kernels.size(); ++rank) {
      const double exit = exits[rank * rounds + round];
      if (kernels[rank] == 0) {
        last_here = std::max(last_here, entries[round][rank]);
        first_here = std::min(first_here, exit);
      } else if (kernels[rank] == kernel) {
        last_there = std::max(last_there, entries[round][rank]);
        first_there = std::min(first_there, exit);
      }
    }
    found.least = std::max(found.least, last_here - first_there);
    found.most = std::min(found.most, first_here - last_there);
  }
  return found;
}

}  // namespace

std::string kernel_here() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id.empty() ? comm::host_name() : id;  // without one every host counts as a kernel
}

CommonClock::CommonClock(Communicator group, const std::string& kernel)
    : group_(std::move(group)),
      kernel_(lowest_alike(group_, kernel)),
      one_kernel_(std::ranges::max(group_.all_gather(std::vector<double>{kernel_})) == 0),
      origin_(steady_now()) {
  // Ranks on one kernel count from the same moment: that of the lowest of them.
  constexpr Nanoseconds second = 1000000000;  // doubles hold either part exactly
  const std::vector<double> origins = group_.all_gather(std::vector<double>{
      static_cast<double>(origin_ / second), static_cast<double>(origin_ % second)});
  const auto whose = 2 * static_cast<std::size_t>(kernel_);
  origin_ = static_cast<Nanoseconds>(origins[whose]) * second +
            static_cast<Nanoseconds>(origins[whose + 1]);
  synchronize();
}

Nanoseconds CommonClock::local_now() const {
  return steady_now() - origin_;
}

void CommonClock::synchronize() {
  if (one_kernel_) {
    return;
  }
  std::vector<std::vector<double>> entries;  // [round, rank]
  std::vector<double> own_exits;             // [round]
  Nanoseconds last = 0;                      // what the round before took
  for (int round = 0; round < rounds; ++round) {
    if ((round % 2 == 0) == (kernel_ == 0)) {  // this side comes last
      wait(std::min<Nanoseconds>(last, 1000000));
    }
    const Nanoseconds entry = local_now();
    entries.push_back(group_.all_gather(std::vector<double>{static_cast<double>(entry)}));
    own_exits.push_back(static_cast<double>(local_now()));
    last = static_cast<Nanoseconds>(own_exits.back()) - entry;
  }
  const std::vector<double> kernels = group_.all_gather(std::vector<double>{kernel_});
  const std::vector<double> exits = group_.all_gather(own_exits);
  if (kernel_ != 0) {
    const Bounds found = bounds(kernel_, kernels, entries, exits);
    offset_ = std::lround((found.least + found.most) / 2);
    const Nanoseconds half = std::lround((found.most - found.least) / 2);
    uncertainty_ = std::max(uncertainty_, half);
  }
}

Nanoseconds CommonClock::from_system_clock(double since_1970) const {
  const double system_now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return now() - std::lround((system_now - since_1970) * 1e9);
}

}  // namespace syncbn::app::scale
