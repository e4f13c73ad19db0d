// SPDX-License-Identifier: Apache-2.0
//
// Ioffe & Szegedy (2015), section 3.4: batch norm regularizes, so that dropout can be removed or
// reduced. Networks that see 2,000 images again and again, of relu units, which learn these by
// heart with batch norm and without.
#include <algorithm>
#include <array>
#include <cstddef>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"

namespace syncbn::app::study {
namespace {

constexpr const char* name = "regularization";
constexpr std::int64_t training_images = 2000;
constexpr std::array dropouts{0.0, 0.1, 0.2, 0.3, 0.4, 0.5};

/// The quick budget leaves out every other one but the last.
bool is_taken(const Plan& plan, double dropout) {
  return plan.budget == Budget::full || dropout == 0 || dropout == 0.2 || dropout == 0.5;
}

Json variant(trainer::Norm norm, double dropout) {
  return {{"norm", to_string(norm)}, {"dropout", dropout}};
}

std::vector<Run> make_runs(const Plan& plan) {
  std::vector<Run> runs;
  for (const std::uint64_t seed : plan.seeds) {
    for (const trainer::Norm norm : norms) {
      for (const double dropout : dropouts) {
        if (!is_taken(plan, dropout)) {
          continue;
        }
        trainer::TrainOptions options = ioffe_szegedy(plan, norm, seed, plan.steps(1500, 10000));
        options.activation = trainer::dnn::Function::relu;
        options.learning_rate = 0.1;
        options.dropout = dropout;
        options.training_images = training_images;
        runs.push_back(make_run(name, variant(norm, dropout), options));
      }
    }
  }
  return runs;
}

double gap(const Json& result) {
  return result["final"]["train_accuracy"].get<double>() -
         result["final"]["test_accuracy"].get<double>();
}

/// Returns what the better of two dropouts gains over none, in points of test accuracy.
std::vector<double> gain_of_dropout(const Results& results, trainer::Norm norm) {
  const auto accuracy = final_value("test_accuracy");
  std::vector<double> best = results.of(name, variant(norm, 0.2), accuracy);
  const std::vector<double> other = results.of(name, variant(norm, 0.5), accuracy);
  for (std::size_t seed = 0; seed < best.size(); ++seed) {
    best[seed] = std::max(best[seed], other[seed]);
  }
  return points_above(best, results.of(name, variant(norm, 0.0), accuracy));
}

std::vector<Claim> make_claims(const Results& results) {
  using trainer::Norm;
  const auto gaps = [&](Norm norm) { return results.of(name, variant(norm, 0.0), gap); };
  return {{.text = "Without dropout, batch norm narrows the gap between training and test images",
           .quantity = "accuracy of training images less that of test images, without batch norm "
                       "less with it, no dropout",
           .unit = "points",
           .values = points_above(gaps(Norm::none), gaps(Norm::sync))},
          {.text = "With batch norm dropout gains less",
           .quantity =
               "what a dropout of 0.2 or 0.5, the better one, adds to the test accuracy, without "
               "batch norm less with it",
           .unit = "points",
           .values = difference(gain_of_dropout(results, Norm::none),
                                gain_of_dropout(results, Norm::sync))},
          {.text = "It is not the learned scale and shift that does it",
           .quantity = "accuracy of training images less that of test images, with a learned scale "
                       "and shift alone less with batch norm, no dropout",
           .unit = "points",
           .control = true,
           .values = points_above(gaps(Norm::affine), gaps(Norm::sync))}};
}

}  // namespace

Experiment regularization(const Plan& plan) {
  return {name, "Batch norm regularizes", "Ioffe & Szegedy 2015, section 3.4", make_runs(plan),
          make_claims};
}

}  // namespace syncbn::app::study
