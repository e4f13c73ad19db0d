// SPDX-License-Identifier: Apache-2.0
//
// Ioffe & Szegedy (2015), sections 1 and 4.2.1: batch norm makes it possible to train networks with
// saturating nonlinearities. Deeper and deeper networks of sigmoid and tanh units.
#include <array>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"
#include "app/study/sweep.hpp"

namespace syncbn::app::study {
namespace {

using trainer::dnn::Function;

constexpr const char* name = "saturating";
constexpr std::array<std::int64_t, 3> depths{1, 4, 10};
constexpr std::array functions{Function::sigmoid, Function::tanh};
/// Each network is judged by the better of two learning rates, so that none is at a loss because
/// the rate suits another.
constexpr std::array rates{0.1, 1.0};

Json variant(trainer::Norm norm, Function function, std::int64_t depth, double rate) {
  return {{"norm", to_string(norm)},
          {"activation", to_string(function)},
          {"hidden_layers", depth},
          {"learning_rate", rate}};
}

std::vector<Run> make_runs(const Plan& plan) {
  std::vector<Run> runs;
  for (const std::uint64_t seed : plan.seeds) {
    for (const trainer::Norm norm : norms) {
      for (const Function function : functions) {
        for (const std::int64_t depth : depths) {
          for (const double rate : rates) {
            trainer::TrainOptions options = ioffe_szegedy(plan, norm, seed, plan.steps(600, 10000));
            options.activation = function;
            options.hidden_layers = depth;
            options.learning_rate = rate;
            runs.push_back(make_run(name, variant(norm, function, depth, rate), options));
          }
        }
      }
    }
  }
  return runs;
}

std::vector<Claim> make_claims(const Results& results) {
  const auto accuracy = [&](trainer::Norm norm, Function function) {
    Sweep sweep;
    for (const double rate : rates) {
      sweep.push_back(results.of(name, variant(norm, function, depths.back(), rate),
                                 final_value("test_accuracy")));
    }
    return best(sweep);
  };
  const auto claim = [&](Function function, trainer::Norm other, std::string text,
                         const char* less) {
    return Claim{
        .text = std::move(text),
        .quantity = fmt::format("test accuracy with {} hidden layers of {} units, at the "
                                "better of two learning rates, with batch norm less {}",
                                depths.back(), to_string(function), less),
        .unit = "points",
        .values = points_above(accuracy(trainer::Norm::sync, function), accuracy(other, function))};
  };
  const char* without = "without";
  const char* affine = "with a learned scale and shift alone";
  const std::string control = "It is not the learned scale and shift that does it";
  Claim shift = claim(Function::sigmoid, trainer::Norm::affine, control, affine);
  shift.control = true;
  return {claim(Function::sigmoid, trainer::Norm::none,
                "With batch norm a deep network of sigmoid units trains better", without),
          claim(Function::tanh, trainer::Norm::none,
                "With batch norm a deep network of tanh units trains better", without),
          std::move(shift),
          claim(Function::tanh, trainer::Norm::affine,
                "With tanh units it is not the learned scale and shift that does it", affine)};
}

}  // namespace

Experiment saturating(const Plan& plan) {
  return {name, "Batch norm trains deep networks of saturating units",
          "Ioffe & Szegedy 2015, sections 1 and 4.2.1", make_runs(plan), make_claims};
}

}  // namespace syncbn::app::study
