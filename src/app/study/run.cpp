// SPDX-License-Identifier: Apache-2.0
#include "app/study/run.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace syncbn::app::study {
namespace {

std::string word(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

std::string run_name(const std::string& experiment, const Json& variant, std::uint64_t seed) {
  std::string name = experiment;
  for (const auto& [factor, value] : variant.items()) {
    name += "-" + word(value);
  }
  return fmt::format("{}-{}", name, seed);
}

Run make_run(const std::string& experiment, const Json& variant,
             const trainer::TrainOptions& options, int ranks) {
  Run run{.name = run_name(experiment, variant, options.seed),
          .experiments = {experiment},
          .variant = variant,
          .options = options,
          .ranks = ranks};
  run.recording.steps = checkpoints(options.steps.value(), 10);
  run.weight = static_cast<double>(*options.steps);
  return run;
}

std::vector<std::int64_t> checkpoints(std::int64_t steps, std::int64_t count) {
  std::vector<std::int64_t> result = {steps / (4 * count), steps / (2 * count)};
  for (std::int64_t i = 1; i <= count; ++i) {
    result.push_back(steps * i / count);
  }
  std::erase(result, 0);
  result.erase(std::ranges::unique(result).begin(), result.end());
  return result;
}

}  // namespace syncbn::app::study
