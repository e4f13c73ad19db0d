// SPDX-License-Identifier: Apache-2.0
//
// Ioffe & Szegedy (2015), section 3.3: batch norm enables higher learning rates. A sweep over four
// decades, whose middle is near the best rate without batch norm, with where training diverges.
#include <array>
#include <string>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"
#include "app/study/sweep.hpp"

namespace syncbn::app::study {
namespace {

constexpr const char* name = "learning-rates";
constexpr std::array rates{0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0};
constexpr double decades_apart = 0.53;  ///< at most

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
  const auto higher_than = [&](const Sweep& other) {
    return difference(highest_that_learns(sync, rates), highest_that_learns(other, rates));
  };
  const std::string highest =
      "highest learning rate at which a network reaches half of its own best accuracy, with batch "
      "norm over ";
  return {{.text = "With batch norm a network learns at higher rates",
           .quantity = highest + "without",
           .unit = "decades",
           .resolution = decades_apart,
           .values = higher_than(none)},
          {.text = "With batch norm the learning rate matters less",
           .quantity = "mean test accuracy over all learning rates, with batch norm less without",
           .unit = "points",
           .values = points_above(mean(sync), mean(none))},
          {.text = "With batch norm the best learning rate gives more, too",
           .quantity = "test accuracy at the learning rate where it is best, with batch norm less "
                       "without",
           .unit = "points",
           .values = points_above(best(sync), best(none))},
          {.text = "It is not the learned scale and shift that does it",
           .quantity = highest + "a learned scale and shift alone",
           .unit = "decades",
           .resolution = decades_apart,
           .control = true,
           .values = higher_than(affine)}};
}

}  // namespace

Experiment learning_rates(const Plan& plan) {
  return {name, "Batch norm lets learning rates be higher", "Ioffe & Szegedy 2015, section 3.3",
          make_runs(plan), make_claims};
}

}  // namespace syncbn::app::study
