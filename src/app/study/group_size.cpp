// SPDX-License-Identifier: Apache-2.0
//
// Wu & Johnson (2021), sections 3 and 4: over how many samples statistics are taken, and which
// statistics evaluation uses: running averages, or those of a population with the weights as they
// are (PreciseBN). One global batch, on more and more ranks. Each rank is a group of its own here,
// which costs least: a group of several ranks gives the same as one rank with their samples
// (experiment synchronize).
#include <array>
#include <cstddef>
#include <string>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"

namespace syncbn::app::study {
namespace {

using trainer::Norm;

constexpr const char* name = "group-size";
constexpr std::int64_t batch = 32;
constexpr std::array<std::int64_t, 5> sizes{2, 4, 8, 16, 32};
constexpr std::int64_t smallest = sizes.front();
constexpr std::int64_t largest = sizes.back();

Json variant(Norm norm, std::int64_t samples) {
  return {{"norm", to_string(norm)}, {"samples", samples}};
}

trainer::TrainOptions options_of(const Plan& plan, std::uint64_t seed, Norm norm) {
  trainer::TrainOptions options = of_tanh_units(plan, norm, seed, plan.steps(500, 5000));
  options.batch_size = batch;
  return options;
}

std::vector<Run> make_runs(const Plan& plan) {
  std::vector<Run> runs;
  for (const std::uint64_t seed : plan.seeds) {
    for (const Norm norm : {Norm::none, Norm::affine}) {  // no ranks are needed for these
      runs.push_back(make_run(name, variant(norm, 1), options_of(plan, seed, norm)));
    }
    for (const std::int64_t size : sizes) {
      trainer::TrainOptions options = options_of(plan, seed, Norm::sync);
      options.norm_samples = size;
      Run run = make_run(name, variant(Norm::sync, size), options, static_cast<int>(batch / size));
      run.recording.steps = checkpoints(*options.steps, 4);
      run.recording.population = true;
      runs.push_back(std::move(run));
    }
  }
  return runs;
}

double mean(const Json& values) {
  double sum = 0;
  for (const Json& value : values) {
    sum += value.get<double>();
  }
  return sum / static_cast<double>(values.size());
}

/// Returns by how many points evaluating with the population's statistics is better, on average
/// over the training.
double gain(const Json& result) {
  const Json& series = result["series"];
  return 100 * (mean(series["population_accuracy"]) - mean(series["test_accuracy"]));
}

std::vector<Claim> make_claims(const Results& results) {
  const auto of = [&](Norm norm, std::int64_t samples, const Results::Quantity& quantity) {
    return results.of(name, variant(norm, samples), quantity);
  };
  const auto running = final_value("test_accuracy");
  const auto population = final_value("population_accuracy");
  const std::string gained =
      "test accuracy with population statistics less with running averages, mean over the "
      "training, groups of ";
  return {
      {.text = "Statistics of two samples are too few, also when evaluated with the population's",
       .quantity = "test accuracy with population statistics, groups of 32 samples less groups "
                   "of 2",
       .unit = "points",
       .values =
           points_above(of(Norm::sync, largest, population), of(Norm::sync, smallest, population))},
      {.text = "With small groups, population statistics are better than running averages",
       .quantity = gained + "2 samples",
       .unit = "points",
       .values = of(Norm::sync, smallest, gain)},
      {.text = "With small groups they gain more than with large ones",
       .quantity = "what population statistics gain over running averages, groups of 2 samples "
                   "less groups of 32",
       .unit = "points",
       .values = difference(of(Norm::sync, smallest, gain), of(Norm::sync, largest, gain))},
      {.text = "It is the statistics: a learned scale and shift alone loses less",
       .quantity = "test accuracy, a learned scale and shift alone less population statistics of "
                   "groups of 2 samples",
       .unit = "points",
       .control = true,
       .values = points_above(of(Norm::affine, 1, running), of(Norm::sync, smallest, population))},
      {.text = "Groups of 32 samples are better than a learned scale and shift alone",
       .quantity = "test accuracy, groups of 32 samples less a learned scale and shift alone",
       .unit = "points",
       .values = points_above(of(Norm::sync, largest, running), of(Norm::affine, 1, running))}};
}

}  // namespace

Experiment group_size(const Plan& plan) {
  return {name, "Groups of enough samples, and statistics of the population",
          "Wu & Johnson 2021, sections 3 and 4; Ying et al. 2018", make_runs(plan), make_claims};
}

}  // namespace syncbn::app::study
