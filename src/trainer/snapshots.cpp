// SPDX-License-Identifier: Apache-2.0
#include "trainer/snapshots.hpp"

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

namespace syncbn::trainer {
namespace {

/// Collective. Returns the fewest steps that any rank has done.
std::int64_t common_steps(std::int64_t mine, const Communicator& ranks) {
  const std::vector<double> all = ranks.all_gather(std::vector{static_cast<double>(mine)});
  return static_cast<std::int64_t>(*std::ranges::min_element(all));
}

/// Collective. Returns rank 0's values, in tensors of the same names and shapes on all ranks.
StateDict of_rank_0(const StateDict& mine, const Communicator& ranks) {
  std::vector<double> values = flatten(mine);
  if (ranks.rank() != 0) {
    std::ranges::fill(values, 0.0);
  }
  ranks.all_reduce(values);
  return unflatten(mine, values.data());
}

}  // namespace

void Snapshots::keep(const Trained& trained, std::int64_t steps_done) {
  one_before_ = std::move(last_);
  last_ = {steps_done, descent_state(trained), layer_state(trained)};
}

const Snapshots::Snapshot& Snapshots::after(std::int64_t steps_done) const {
  const Snapshot& found = last_.steps_done == steps_done ? last_ : one_before_;
  assert(found.steps_done == steps_done);
  return found;
}

std::int64_t Snapshots::restore(const Trained& trained, const Communicator& ranks) {
  Snapshot common = after(common_steps(last_.steps_done, ranks));
  common.descent = of_rank_0(common.descent, ranks);
  if (trained.running_statistics == RunningStatistics::shared) {
    common.layers = of_rank_0(common.layers, ranks);
  }
  StateDict state = common.descent;
  state.tensors.insert(common.layers.tensors.begin(), common.layers.tensors.end());
  load_state(trained, state);
  last_ = std::move(common);
  return last_.steps_done;
}

}  // namespace syncbn::trainer
