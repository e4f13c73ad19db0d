// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace syncbn::app::study {

/// A Budget says how long a study may take: minutes on two processors, or a night on a workstation.
enum class Budget : std::uint8_t { quick, full };

/// A Plan holds what the user asks for, and what follows from it for every experiment.
struct Plan {
  Budget budget = Budget::quick;
  std::filesystem::path data;              ///< directory of the data set
  std::vector<std::uint64_t> seeds;        ///< each variant is trained with each of these
  std::optional<std::int64_t> most_steps;  ///< of each run; unset: the experiment's own number

  template <class T>
  T by_budget(T quick, T full) const {
    return budget == Budget::quick ? quick : full;
  }
  std::int64_t steps(std::int64_t quick, std::int64_t full) const {
    return std::min(by_budget(quick, full), most_steps.value_or(by_budget(quick, full)));
  }
};

}  // namespace syncbn::app::study
