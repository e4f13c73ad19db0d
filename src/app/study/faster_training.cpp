// SPDX-License-Identifier: Apache-2.0
//
// Ioffe & Szegedy (2015), section 4.1 and Fig. 1: how fast a network of sigmoid units learns, and
// how the inputs of its last hidden layer move meanwhile. Both questions are put to the same runs.
#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"

namespace syncbn::app::study {
namespace {

constexpr const char* name = "faster-training";

/// Returns when the network is evaluated: most often at first.
std::vector<std::int64_t> curve(std::int64_t steps) {
  std::vector<std::int64_t> result = checkpoints(steps / 10, 5);
  for (const std::int64_t step : checkpoints(steps, 20)) {
    if (result.empty() || step > result.back()) {
      result.push_back(step);
    }
  }
  return result;
}

std::vector<Run> make_runs(const Plan& plan) {
  std::vector<Run> runs;
  for (const std::uint64_t seed : plan.seeds) {
    for (const trainer::Norm norm : norms) {
      const std::int64_t steps = plan.steps(5000, 50000);
      Run run = make_run(name, {{"norm", to_string(norm)}}, ioffe_szegedy(plan, norm, seed, steps));
      run.recording.steps = curve(steps);
      run.recording.hidden_inputs = true;
      run.experiments = {name, "activations"};
      runs.push_back(std::move(run));
    }
  }
  return runs;
}

std::vector<double> of(const Results& results, const char* norm,
                       const Results::Quantity& quantity) {
  return results.of(name, {{"norm", norm}}, quantity);
}

/// Returns how many times fewer steps the network with batch norm takes to where the other ends.
std::vector<double> speed_up(const Results& results, const char* other) {
  const std::vector<double> goals = of(results, other, final_value("test_accuracy"));
  std::size_t seed = 0;
  return of(results, "sync", [&](const Json& result) {
    const Json& series = result["series"];
    const double goal = goals[seed++];
    for (std::size_t i = 0; i < series["step"].size(); ++i) {
      if (series["test_accuracy"][i].get<double>() >= goal) {
        return series["step"].back().get<double>() / series["step"][i].get<double>();
      }
    }
    return 0.0;
  });
}

std::vector<Claim> training_claims(const Results& results) {
  const auto lead = [&](const char* other, double share) {
    const auto accuracy = value_after("test_accuracy", share);
    return points_above(of(results, "sync", accuracy), of(results, other, accuracy));
  };
  return {
      {.text = "With batch norm the network is ahead after a tenth of the steps",
       .quantity = "test accuracy after a tenth of the steps, with batch norm less without",
       .unit = "points",
       .values = lead("none", 0.1)},
      {.text = "With batch norm the network is ahead at the end",
       .quantity = "test accuracy at the end, with batch norm less without",
       .unit = "points",
       .values = lead("none", 1)},
      {.text = "With batch norm the network takes less than half of the steps",
       .quantity = "steps without batch norm, over those with it to the same test accuracy",
       .unit = "times",
       .margin = 2,
       .values = speed_up(results, "none")},
      {.text = "It is not the learned scale and shift that does it",
       .quantity = "test accuracy after a tenth of the steps, with batch norm less with a learned "
                   "scale and shift alone",
       .unit = "points",
       .values = lead("affine", 0.1)}};
}

/// Returns how far the three percentiles of the units' inputs have moved in all, in units of the
/// distance between the outer two at the end. It leaves out the first twentieth of the steps.
double path(const Json& result) {
  const Json& series = result["series"];
  const double start = 0.05 * series["step"].back().get<double>();
  double moved = 0;
  for (std::size_t i = 1; i < series["step"].size(); ++i) {
    moved += series["step"][i - 1].get<double>() >= start ? series["hidden_moved"][i].get<double>()
                                                          : 0.0;
  }
  return moved / series["hidden_width"].back().get<double>();
}

std::vector<Claim> activation_claims(const Results& results) {
  const auto further = [&](const char* other) {
    return difference(of(results, other, path), of(results, "sync", path));
  };
  return {
      {.text = "With batch norm the inputs of the last hidden layer move less",
       .quantity = "path of the percentiles, in widths of the distribution, without batch norm "
                   "less with it",
       .unit = "widths",
       .values = further("none")},
      {.text = "It is not the learned scale and shift that does it",
       .quantity = "path of the percentiles, in widths of the distribution, with a learned scale "
                   "and shift alone less with batch norm",
       .unit = "widths",
       .values = further("affine")}};
}

}  // namespace

Experiment faster_training(const Plan& plan) {
  return {name, "Batch norm makes training faster", "Ioffe & Szegedy 2015, section 4.1, Fig. 1a",
          make_runs(plan), training_claims};
}

Experiment activations(const Plan& plan) {
  return {"activations", "Batch norm steadies the inputs of hidden layers",
          "Ioffe & Szegedy 2015, section 4.1, Fig. 1b and 1c", make_runs(plan), activation_claims};
}

}  // namespace syncbn::app::study
