// SPDX-License-Identifier: Apache-2.0
#include "app/study/run.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace syncbn::app::study {

std::string text_of(const Json& factor) {
  return factor.is_string() ? factor.get<std::string>() : factor.dump();
}

std::string run_name(const std::string& experiment, const Json& variant, std::uint64_t seed) {
  std::string name = experiment;
  for (const auto& [factor, value] : variant.items()) {
    name += fmt::format("-{}", text_of(value));
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
  run.recording.steps = {options.steps.value()};
  return run;
}

std::vector<std::int64_t> checkpoints(std::int64_t steps, std::int64_t count) {
  std::vector<std::int64_t> result;
  for (std::int64_t i = 1; i <= count; ++i) {
    result.push_back(steps * i / count);
  }
  std::erase(result, 0);
  result.erase(std::ranges::unique(result).begin(), result.end());
  return result;
}

// The constants were measured; what they are wrong by, the progress's estimate mends. A rank's part
// of a step costs the more parameters there are: each updates all of them.
double Run::weight() const {
  constexpr double of_rank = 0.5, of_image = 0.5 / 60;  // with 3 hidden layers
  constexpr double of_evaluation = 50;
  const auto steps = static_cast<double>(options.steps.value());
  const auto images = static_cast<double>(options.batch_size);
  const auto evaluations = static_cast<double>(recording.steps.size() + 1);
  const double depth = 0.7 + 0.1 * static_cast<double>(options.hidden_layers);
  const int trainers = ranks + (recording.one_process ? 1 : 0);
  const double step = (of_rank * trainers + of_image * images) * depth;
  const double of_population =
      recording.population ? static_cast<double>(population_images) / images * step : 0;
  return steps * step + evaluations * (of_evaluation + of_population);
}

}  // namespace syncbn::app::study
