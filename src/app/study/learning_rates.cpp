// SPDX-License-Identifier: Apache-2.0
//
// Ioffe & Szegedy (2015), section 3.3: batch norm enables higher learning rates. A sweep over four
// decades, with where training diverges.
#include <array>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"
#include "app/study/sweep.hpp"

namespace syncbn::app::study {
namespace {

constexpr const char* name = "learning-rates";
constexpr std::array rates{0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0};
constexpr double decades_apart = 0.5;

std::vector<Run> make_runs(const Plan& plan) {
  std::vector<Run> runs;
  for (const std::uint64_t seed : plan.seeds) {
    for (const trainer::Norm norm : norms) {
      for (const double rate : rates) {
        trainer::TrainOptions options = ioffe_szegedy(plan, norm, seed, plan.steps(750, 10000));
        options.learning_rate = rate;
        runs.push_back(
            make_run(name, {{"norm", to_string(norm)}, {"learning_rate", rate}}, options));
      }
    }
  }
  return runs;
}

Sweep sweep(const Results& results, trainer::Norm norm) {
  return sweep_of(results, name, norm, "learning_rate", rates);
}

std::vector<Claim> make_claims(const Results& results) {
  const Sweep none = sweep(results, trainer::Norm::none);
  const Sweep affine = sweep(results, trainer::Norm::affine);
  const Sweep sync = sweep(results, trainer::Norm::sync);
  const std::array<const Sweep*, 3> all{&none, &affine, &sync};
  const auto more_decades = [&](const Sweep& other) {
    return difference(decades(sync, all, decades_apart), decades(other, all, decades_apart));
  };
  return {
      {.text = "With batch norm more learning rates do",
       .quantity = "range of learning rates within 5 points of the best accuracy of any network, "
                   "with batch norm less without",
       .unit = "decades",
       .values = more_decades(none)},
      {.text = "With batch norm the best learning rate gives more, too",
       .quantity = "test accuracy at the best learning rate of each, with batch norm less without",
       .unit = "points",
       .values = points_above(best(sync), best(none))},
      {.text = "It is not the learned scale and shift that does it",
       .quantity = "range of learning rates within 5 points of the best accuracy of any network, "
                   "with batch norm less with a learned scale and shift alone",
       .unit = "decades",
       .control = true,
       .values = more_decades(affine)}};
}

}  // namespace

Experiment learning_rates(const Plan& plan) {
  return {name, "Batch norm lets learning rates be higher", "Ioffe & Szegedy 2015, section 3.3",
          make_runs(plan), make_claims};
}

}  // namespace syncbn::app::study
