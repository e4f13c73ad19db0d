// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/schedule.hpp"

#include <algorithm>

namespace syncbn::comm::mpi {
namespace {

/// Returns the largest number 2^a 3^b up to `size`.
int core_of(int size) {
  int core = 1;
  for (std::int64_t threes = 1; threes <= size; threes *= 3) {
    std::int64_t number = threes;
    while (2 * number <= size) {
      number *= 2;
    }
    core = std::max(core, static_cast<int>(number));
  }
  return core;
}

/// Returns the trade of `rank` with the ranks that differ from it only in the digit at `stride`,
/// which runs up to `radix`.
Step trade(int rank, int stride, int radix) {
  const int digit = rank / stride % radix;
  Step step{Act::trade, {}};
  for (int other = 0; other < radix; ++other) {
    if (other != digit) {
      step.partners.push_back(rank + (other - digit) * stride);
    }
  }
  return step;
}

}  // namespace

std::vector<Step> schedule(int rank, int size) {
  const int core = core_of(size);
  if (rank >= core) {
    return {{Act::give, {rank - core}}, {Act::take_sum, {rank - core}}};
  }
  const bool helps = rank + core < size;
  std::vector<Step> steps;
  if (helps) {
    steps.push_back({Act::take_and_add, {rank + core}});
  }
  for (int stride = 1; stride < core;) {
    const int radix = core / stride % 2 == 0 ? 2 : 3;
    steps.push_back(trade(rank, stride, radix));
    stride *= radix;
  }
  if (helps) {
    steps.push_back({Act::give, {rank + core}});
  }
  return steps;
}

}  // namespace syncbn::comm::mpi
