// SPDX-License-Identifier: Apache-2.0
//
// What synchronizing does: the same global batch on more and more ranks, down to one sample a rank,
// with the statistics of each rank and with those of all, against one process. The curve of
// accuracies with local statistics is known from Wu & He (2018), "Group Normalization", Fig. 1.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"

namespace syncbn::app::study {
namespace {

using trainer::Norm;

constexpr const char* name = "synchronize";
constexpr std::int64_t batch = 8;
constexpr std::array rank_counts{1, 2, 4, 8};
constexpr int most_ranks = rank_counts.back();

Json variant(Norm norm, int ranks) {
  return {{"norm", to_string(norm)}, {"ranks", ranks}, {"samples", batch / ranks}};
}

Run make_run_of(const Plan& plan, std::uint64_t seed, Norm norm, int ranks) {
  trainer::TrainOptions options = of_tanh_units(plan, norm, seed, plan.steps(600, 6000));
  options.batch_size = batch;
  Run run = make_run(name, variant(norm, ranks), options, ranks);
  run.recording.one_process = ranks > 1;
  return run;
}

std::vector<Run> make_runs(const Plan& plan) {
  std::vector<Run> runs;
  for (const std::uint64_t seed : plan.seeds) {
    for (const Norm norm : {Norm::none, Norm::affine}) {
      runs.push_back(make_run_of(plan, seed, norm, most_ranks));
    }
    for (const int ranks : rank_counts) {
      runs.push_back(make_run_of(plan, seed, Norm::sync, ranks));
      if (ranks > 1) {  // on one rank both are the same
        runs.push_back(make_run_of(plan, seed, Norm::local, ranks));
      }
    }
  }
  return runs;
}

double gap(const Json& result) {
  return std::abs(result["final"]["batch_accuracy"].get<double>() -
                  result["final"]["train_accuracy"].get<double>());
}

/// Returns by how many decades a training is further from one process than the synchronized one.
std::vector<double> decades_further(const Results& results, Norm norm) {
  const auto log_distance = [](const Json& result) {
    constexpr double smallest = 1e-16;  // where the two have the same bits
    return std::log10(std::max(smallest, result["final"]["distance"].get<double>()));
  };
  return difference(results.of(name, variant(norm, most_ranks), log_distance),
                    results.of(name, variant(Norm::sync, most_ranks), log_distance));
}

std::vector<Claim> make_claims(const Results& results) {
  const auto accuracy = [&](Norm norm, int ranks) {
    return results.of(name, variant(norm, ranks), final_value("test_accuracy"));
  };
  const auto distance = [&](Norm norm) {
    return results.of(name, variant(norm, most_ranks), final_value("distance"));
  };
  const auto gaps = [&](Norm norm, int ranks) {
    return results.of(name, variant(norm, ranks), gap);
  };
  return {
      {.text = "With one sample a rank, synchronizing saves the accuracy",
       .quantity = "test accuracy on 8 ranks of one sample, synchronized less local",
       .unit = "points",
       .values = points_above(accuracy(Norm::sync, 8), accuracy(Norm::local, 8))},
      {.text = "With two samples a rank, synchronizing saves accuracy",
       .quantity = "test accuracy on 4 ranks of two samples, synchronized less local",
       .unit = "points",
       .values = points_above(accuracy(Norm::sync, 4), accuracy(Norm::local, 4))},
      {.text = "Synchronized, 8 ranks reach the accuracy of one process",
       .quantity = "test accuracy, on 8 ranks less on one",
       .unit = "points",
       .test = Claim::Test::within,
       .margin = 0.5,
       .values = points_above(accuracy(Norm::sync, 8), accuracy(Norm::sync, 1))},
      {.text = "Synchronized, 8 ranks stay on the way of one process",
       .quantity = "distance of the parameters from those of one process, over what these have "
                   "come",
       .unit = "",
       .test = Claim::Test::within,
       .margin = 0.01,
       .values = distance(Norm::sync)},
      {.text = "With local statistics they leave it",
       .quantity = "distance of the parameters from those of one process, local over synchronized",
       .unit = "decades",
       .margin = 1,
       .values = decades_further(results, Norm::local)},
      {.text = "With local statistics, training sees another network than testing",
       .quantity = "difference between the accuracies in training and of the same images in "
                   "evaluation, on 4 ranks of two samples, local less synchronized",
       .unit = "points",
       .values = points_above(gaps(Norm::local, 4), gaps(Norm::sync, 4))},
      {.text = "Without batch norm there is nothing to synchronize",
       .quantity = "distance of the parameters from those of one process, over what these have "
                   "come, without batch norm",
       .unit = "",
       .test = Claim::Test::within,
       .margin = 0.01,
       .values = distance(Norm::none)},
      {.text = "Nor with a learned scale and shift alone",
       .quantity = "distance of the parameters from those of one process, over what these have "
                   "come, with a learned scale and shift",
       .unit = "",
       .test = Claim::Test::within,
       .margin = 0.01,
       .values = distance(Norm::affine)}};
}

}  // namespace

Experiment synchronize(const Plan& plan) {
  return {name, "Synchronized batch norm trains as one process does",
          "Peng et al. 2018 (MegDet), section 3.3; Wu & He 2018, Fig. 1", make_runs(plan),
          make_claims};
}

}  // namespace syncbn::app::study
