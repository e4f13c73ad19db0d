// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "app/scale/cells.hpp"

namespace syncbn::app::scale {
namespace {

/// Returns whether cells of this kind measure what takes milliseconds.
bool is_long(Kind kind) {
  return kind == Kind::layer || kind == Kind::step;
}

}  // namespace

double most_seconds(const Plan& plan, Kind kind) {
  return (kind == Kind::step ? 4 : is_long(kind) ? 2 : 1) * plan.cell_seconds;
}

StoppingRule stopping_rule(const Plan& plan, Kind kind, double seconds, int ranks) {
  constexpr std::size_t samples_of_all = 1000000;
  StoppingRule rule;
  rule.most =
      std::clamp(samples_of_all / static_cast<std::size_t>(ranks), 10 * rule.fewest, rule.most);
  rule.most_seconds = std::min(seconds, most_seconds(plan, kind));
  rule.least_seconds = rule.most_seconds / 5;
  if (is_long(kind)) {
    rule.fewest = plan.budget == Budget::quick ? 10 : 30;
    rule.waiting_counts = true;
  }
  return rule;
}

}  // namespace syncbn::app::scale
