// SPDX-License-Identifier: Apache-2.0
#include "app/misspelt_variables.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "app/library_variables.hpp"
#include "app/option_values.hpp"

namespace syncbn::app {

std::vector<std::string> misspelt_variables(const char* const* environment) {
  constexpr std::string_view prefix = "SYNCBN_";
  const std::vector<std::string> known(library_variables.begin(), library_variables.end());
  // Names are compared without the prefix, which would count as likeness.
  std::vector<std::string> endings;
  std::ranges::transform(known, std::back_inserter(endings),
                         [&](const std::string& name) { return name.substr(prefix.size()); });
  std::vector<std::string> warnings;
  for (; *environment != nullptr; ++environment) {
    const std::string_view variable(*environment);
    const std::string_view name = variable.substr(0, variable.find('='));
    if (name.starts_with(prefix) && std::ranges::find(known, name) == known.end() &&
        !did_you_mean(name.substr(prefix.size()), endings).empty()) {
      warnings.push_back(fmt::format("the environment has {} (nothing reads it).{}", name,
                                     did_you_mean(name, known)));
    }
  }
  return warnings;
}

}  // namespace syncbn::app
