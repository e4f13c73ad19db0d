// SPDX-License-Identifier: Apache-2.0
//
// Wu & Johnson (2021), section 5: where the samples of a normalization batch have labels in common,
// the batch's statistics tell of the label. Training finds that out and cheats; in evaluation it
// cannot. Here each step's samples are sorted by label before the ranks take their parts.
// Evaluation takes the statistics of the population, so that a rank's running averages, which are
// those of its own labels, play no part.
#include <array>
#include <string>
#include <utility>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"

namespace syncbn::app::study {
namespace {

using trainer::Norm;
using trainer::Shards;

constexpr const char* name = "leakage";
constexpr int ranks = 4;
constexpr std::int64_t batch = 32;
constexpr std::array all_norms{Norm::none, Norm::affine, Norm::local, Norm::sync};

Json variant(Norm norm, Shards shards) {
  return {{"norm", to_string(norm)}, {"shards", to_string(shards)}};
}

std::vector<Run> make_runs(const Plan& plan) {
  std::vector<Run> runs;
  for (const std::uint64_t seed : plan.seeds) {
    for (const Norm norm : all_norms) {
      for (const Shards shards : {Shards::mixed, Shards::by_label}) {
        trainer::TrainOptions options = of_tanh_units(plan, norm, seed, plan.steps(600, 6000));
        options.batch_size = batch;
        options.shards = shards;
        Run run = make_run(name, variant(norm, shards), options, ranks);
        run.recording.steps = {*options.steps * 3 / 4,
                               *options.steps};  // training's is of a quarter
        run.recording.population = true;
        runs.push_back(std::move(run));
      }
    }
  }
  return runs;
}

/// Returns by how many points training seems better than it is.
double gap(const Json& result) {
  return 100 *
         (final_value("batch_accuracy")(result) - final_value("population_train_accuracy")(result));
}

std::vector<Claim> make_claims(const Results& results) {
  const auto gaps = [&](Norm norm, Shards shards) {
    return results.of(name, variant(norm, shards), gap);
  };
  const std::vector<double> local = gaps(Norm::local, Shards::by_label);
  const auto less_than_local = [&](Norm norm) {
    return difference(local, gaps(norm, Shards::by_label));
  };
  const auto accuracy = [&](Norm norm) {
    return results.of(name, variant(norm, Shards::by_label), final_value("population_accuracy"));
  };
  const std::string seems = "accuracy in training less that of training images in evaluation, ";
  return {{.text = "With local statistics and ranks sorted by label, training cheats",
           .quantity = seems + "ranks sorted by label, local",
           .unit = "points",
           .values = local},
          {.text = "With synchronized statistics it cheats less",
           .quantity = seems + "ranks sorted by label, local less synchronized",
           .unit = "points",
           .values = less_than_local(Norm::sync)},
          {.text = "Synchronizing saves accuracy",
           .quantity = "test accuracy with ranks sorted by label, synchronized less local",
           .unit = "points",
           .values = points_above(accuracy(Norm::sync), accuracy(Norm::local))},
          {.text = "It is the sorting: with mixed ranks, local statistics cheat less",
           .quantity = seems + "local, ranks sorted by label less mixed",
           .unit = "points",
           .control = true,
           .values = difference(local, gaps(Norm::local, Shards::mixed))},
          {.text = "It is the statistics: without batch norm there is less of it",
           .quantity = seems + "ranks sorted by label, local batch norm less none",
           .unit = "points",
           .control = true,
           .values = less_than_local(Norm::none)},
          {.text = "It is not the learned scale and shift that does it",
           .quantity = seems + "ranks sorted by label, local batch norm less a learned scale and "
                               "shift alone",
           .unit = "points",
           .control = true,
           .values = less_than_local(Norm::affine)}};
}

}  // namespace

Experiment leakage(const Plan& plan) {
  return {name, "Local batch norm leaks labels that ranks have in common",
          "Wu & Johnson 2021, section 5", make_runs(plan), make_claims};
}

}  // namespace syncbn::app::study
