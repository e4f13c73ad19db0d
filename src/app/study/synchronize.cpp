// SPDX-License-Identifier: Apache-2.0
//
// What synchronizing does: the same global batch on more and more ranks, down to one sample a rank,
// with the statistics of each rank and with those of all, against one process. The curve of
// accuracies with local statistics is known from Wu & He (2018), "Group Normalization", Fig. 1.
//
// Ranks round differently than one process, and training with batch norm over few samples is
// chaotic: what rounding puts apart grows, here about tenfold every 10 to 20 steps. So trajectories
// are compared after a few steps, and with what rounding alone does: one process that takes each
// step's samples in another order.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"

namespace syncbn::app::study {
namespace {

using trainer::Norm;

constexpr const char* name = "synchronize";
constexpr std::int64_t batch = 8;
constexpr std::array rank_counts{1, 2, 4, 8};
constexpr int most_ranks = rank_counts.back();
constexpr std::int64_t few_steps = 10;  ///< after which trajectories are compared

Json variant(Norm norm, int ranks) {
  return {{"norm", to_string(norm)}, {"ranks", ranks}, {"samples", batch / ranks}};
}

/// Names one process that takes the samples of a step in another order.
Json reordered() {
  Json of_one = variant(Norm::sync, 1);
  of_one["shards"] = to_string(trainer::Shards::by_label);
  return of_one;
}

/// Returns when the parameters are compared: most often at first.
std::vector<std::int64_t> steps_compared(std::int64_t steps) {
  std::vector<std::int64_t> result;
  for (const std::int64_t step :
       std::initializer_list<std::int64_t>{1, 3, 6, few_steps, 20, 40, 80, 160, 320}) {
    if (step < steps) {
      result.push_back(step);
    }
  }
  result.push_back(steps);
  return result;
}

trainer::TrainOptions options_of(const Plan& plan, std::uint64_t seed, Norm norm) {
  trainer::TrainOptions options = of_tanh_units(plan, norm, seed, plan.steps(600, 6000));
  options.batch_size = batch;
  return options;
}

std::vector<Run> make_runs(const Plan& plan) {
  std::vector<Run> runs;
  const auto add = [&](const Json& of_run, const trainer::TrainOptions& options, int ranks) {
    Run run = make_run(name, of_run, options, ranks);
    run.recording.steps = steps_compared(*options.steps);
    run.recording.one_process = ranks > 1 || options.shards == trainer::Shards::by_label;
    runs.push_back(std::move(run));
  };
  for (const std::uint64_t seed : plan.seeds) {
    for (const Norm norm : {Norm::none, Norm::affine}) {
      add(variant(norm, most_ranks), options_of(plan, seed, norm), most_ranks);
    }
    for (const int ranks : rank_counts) {
      add(variant(Norm::sync, ranks), options_of(plan, seed, Norm::sync), ranks);
      if (ranks > 1) {  // on one rank both are the same
        add(variant(Norm::local, ranks), options_of(plan, seed, Norm::local), ranks);
      }
    }
    trainer::TrainOptions other_order = options_of(plan, seed, Norm::sync);
    other_order.shards = trainer::Shards::by_label;
    add(reordered(), other_order, 1);
  }
  return runs;
}

/// Returns how far apart training and evaluation see the accuracy of the same images.
double gap(const Json& result) {
  return std::abs(final_value("batch_accuracy")(result) - final_value("train_accuracy")(result));
}

double log_of(double distance) {
  constexpr double smallest = 1e-16;  // where the two have the same bits
  return std::log10(distance < smallest ? smallest : distance);
}

/// Returns the distance from one process after a few steps; NaN if there is none.
double early_distance(const Json& result) {
  const Json& series = result.at("series");
  std::size_t place = 0;
  while (place + 1 < series.at("step").size() && series["step"][place] < few_steps) {
    ++place;
  }
  const auto distances = series.find("distance");
  return distances != series.end() && place < distances->size() && (*distances)[place].is_number()
             ? (*distances)[place].get<double>()
             : std::numeric_limits<double>::quiet_NaN();
}

double early_log(const Json& result) {
  return log_of(early_distance(result));
}

std::string distance() {
  return fmt::format(
      "distance of the parameters from those of one process after {} steps, over what these have "
      "come",
      few_steps);
}

/// Returns the claim that a variant is so near to one process after a few steps.
Claim begins_on_the_way(const Results& results, Norm norm, std::string text,
                        const std::string& which) {
  return {.text = std::move(text),
          .quantity = distance() + which,
          .unit = "",
          .test = Claim::Test::below,
          .margin = 0.001,
          .control = true,
          .values = results.of(name, variant(norm, most_ranks), early_distance)};
}

/// Returns the claims that synchronized ranks do what one process does.
std::vector<Claim> claims_of_sync(const Results& results) {
  const auto log = [&](const Json& of_run) { return results.of(name, of_run, early_log); };
  // Test accuracies are by running averages, which over so few samples are noise of some points.
  const auto learned = [&](int ranks) {
    return results.of(name, variant(Norm::sync, ranks), final_value("batch_accuracy"));
  };
  return {
      {.text = "Synchronized, 8 ranks learn as well as one process",
       .quantity = "accuracy in training after the last evaluation but one, on 8 ranks less on "
                   "one",
       .unit = "points",
       .test = Claim::Test::within,
       .margin = 2,
       .values = points_above(learned(8), learned(1))},
      begins_on_the_way(results, Norm::sync,
                        "Synchronized, 8 ranks begin on the way of one process", ""),
      {.text = "They leave it no faster than rounding does",
       .quantity = distance() + ", over that of one process with its samples in another order",
       .unit = "decades",
       .test = Claim::Test::below,
       .margin = 1,
       .control = true,
       .values = difference(log(variant(Norm::sync, most_ranks)), log(reordered()))},
      begins_on_the_way(results, Norm::none, "Without batch norm there is nothing to synchronize",
                        ", without batch norm"),
      begins_on_the_way(results, Norm::affine, "Nor with a learned scale and shift alone",
                        ", with a learned scale and shift")};
}

/// Returns the claims that ranks with local statistics do something else.
std::vector<Claim> claims_of_local(const Results& results) {
  const auto more_accurate = [&](int ranks) {
    const auto accuracy = [&](Norm norm) {
      return results.of(name, variant(norm, ranks), final_value("test_accuracy"));
    };
    return points_above(accuracy(Norm::sync), accuracy(Norm::local));
  };
  const auto log = [&](Norm norm) {
    return results.of(name, variant(norm, most_ranks), early_log);
  };
  const auto gaps = [&](Norm norm) { return results.of(name, variant(norm, 4), gap); };
  return {{.text = "With local statistics they leave it at once",
           .quantity = distance() + ", local over synchronized",
           .unit = "decades",
           .margin = 2,
           .control = true,
           .values = difference(log(Norm::local), log(Norm::sync))},
          {.text = "With one sample a rank, synchronizing saves the accuracy",
           .quantity = "test accuracy on 8 ranks of one sample, synchronized less local",
           .unit = "points",
           .values = more_accurate(8)},
          {.text = "With two samples a rank, synchronizing saves accuracy",
           .quantity = "test accuracy on 4 ranks of two samples, synchronized less local",
           .unit = "points",
           .values = more_accurate(4)},
          {.text = "With local statistics, training sees another network than testing",
           .quantity = "difference between the accuracies in training and of the same images in "
                       "evaluation, on 4 ranks of two samples, local less synchronized",
           .unit = "points",
           .values = points_above(gaps(Norm::local), gaps(Norm::sync))}};
}

std::vector<Claim> make_claims(const Results& results) {
  std::vector<Claim> claims = claims_of_sync(results);
  std::ranges::move(claims_of_local(results), std::back_inserter(claims));
  return claims;
}

}  // namespace

Experiment synchronize(const Plan& plan) {
  return {name, "Synchronized batch norm trains as one process does",
          "Peng et al. 2018 (MegDet), section 3.3; Wu & He 2018, Fig. 1", make_runs(plan),
          make_claims};
}

}  // namespace syncbn::app::study
