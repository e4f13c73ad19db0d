// SPDX-License-Identifier: Apache-2.0
//
// Ioffe & Szegedy (2015), section 4.1 and Fig. 1: how fast a network of sigmoid units learns, and
// how the inputs of its last hidden layer move meanwhile. Both questions are put to the same runs.
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>

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

/// Returns the mean of the test accuracies at the evaluations between two shares of the steps.
Results::Quantity mean_accuracy(double from, double to) {
  return [=](const Json& result) {
    const Json& series = result["series"];
    if (!result["diverged_at"].is_null()) {
      return result["final"]["test_accuracy"].get<double>();
    }
    const double steps = series["step"].back();
    double sum = 0, count = 0;
    for (std::size_t i = 0; i < series["step"].size(); ++i) {
      const double share = series["step"][i].get<double>() / steps;
      if (share >= from && share <= to) {
        sum += series["test_accuracy"][i].get<double>();
        ++count;
      }
    }
    return count > 0 ? sum / count : series["test_accuracy"].front().get<double>();
  };
}

constexpr double beginning = 0.1,
                 end = 0.8;  ///< shares of the steps: to the one, from the other on

/// Returns how many times fewer steps the network with batch norm takes to within 5 points of where
/// the other ends; 0 if it does not come there.
std::vector<double> speed_up(const Results& results, const char* other) {
  constexpr double near = 0.05;
  const std::vector<double> ends = of(results, other, mean_accuracy(end, 1));
  const auto steps_of = [&](const char* norm) {
    std::size_t seed = 0;
    return of(results, norm, [&](const Json& result) {
      const Json& series = result["series"];
      const double goal = ends[seed++] - near;
      for (std::size_t i = 0; i < series["step"].size(); ++i) {
        if (series["test_accuracy"][i].get<double>() >= goal) {
          return series["step"][i].get<double>();
        }
      }
      return std::numeric_limits<double>::infinity();
    });
  };
  std::vector<double> ratios = steps_of(other);
  const std::vector<double> steps = steps_of("sync");
  for (std::size_t seed = 0; seed < ratios.size(); ++seed) {
    ratios[seed] = std::isfinite(steps[seed]) ? ratios[seed] / steps[seed] : 0;
  }
  return ratios;
}

std::vector<Claim> training_claims(const Results& results) {
  const auto lead = [&](const char* other, double from, double to) {
    return points_above(of(results, "sync", mean_accuracy(from, to)),
                        of(results, other, mean_accuracy(from, to)));
  };
  return {{.text = "With batch norm the network is ahead in the first tenth of the steps",
           .quantity = "mean test accuracy in the first tenth of the steps, with batch norm less "
                       "without",
           .unit = "points",
           .values = lead("none", 0, beginning)},
          {.text = "With batch norm the network is ahead at the end",
           .quantity = "mean test accuracy in the last fifth of the steps, with batch norm less "
                       "without",
           .unit = "points",
           .values = lead("none", end, 1)},
          {.text = "With batch norm the network takes fewer steps",
           .quantity = "steps to within 5 points of where the network without batch norm ends, "
                       "without over with it",
           .unit = "times",
           .margin = 1,
           .values = speed_up(results, "none")},
          {.text = "It is not the learned scale and shift that does it",
           .quantity = "mean test accuracy in the first tenth of the steps, with batch norm less "
                       "with a learned scale and shift alone",
           .unit = "points",
           .control = true,
           .values = lead("affine", 0, beginning)}};
}

/// Returns by how many decades the width of the distribution changes from the first evaluation to
/// the end.
double widening(const Json& result) {
  const Json& widths = result["series"]["hidden_width"];
  return widths.empty()
             ? 0
             : std::abs(std::log10(widths.back().get<double>() / widths.front().get<double>()));
}

/// Returns how far the three percentiles of the units' inputs have moved in all since the first
/// evaluation, in widths of the distribution as it is at the time.
double path(const Json& result) {
  const Json& series = result["series"];
  double moved = 0;
  for (std::size_t i = 1; i < series["step"].size(); ++i) {
    moved += series["hidden_moved"][i].get<double>() / series["hidden_width"][i].get<double>();
  }
  return moved;
}

std::vector<Claim> activation_claims(const Results& results) {
  const auto more = [&](const char* other, const Results::Quantity& quantity) {
    return difference(of(results, other, quantity), of(results, "sync", quantity));
  };
  const std::string width =
      "change of the distance between the outer percentiles from the first evaluation to the end, ";
  return {{.text = "With batch norm the inputs of the last hidden layer keep their spread",
           .quantity = width + "without batch norm less with it",
           .unit = "decades",
           .values = more("none", widening)},
          {.text = "With batch norm the inputs of the last hidden layer move less",
           .quantity = "path of the percentiles, in widths of the distribution, without batch norm "
                       "less with it",
           .unit = "widths",
           .values = more("none", path)},
          {.text = "It is not the learned scale and shift that does it",
           .quantity = width + "with a learned scale and shift alone less with batch norm",
           .unit = "decades",
           .control = true,
           .values = more("affine", widening)}};
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
