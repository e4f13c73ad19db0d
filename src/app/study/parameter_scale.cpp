// SPDX-License-Identifier: Apache-2.0
//
// Ioffe & Szegedy (2015), section 3.3: BN((aW)u) = BN(Wu), the gradient of u is unchanged, and that
// of aW is that of W over a. Here is what that means for training, a sweep of the initial scale of
// the weights over six decades; the identity itself is checked in scale_identity.cpp.
#include <array>
#include <string>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"
#include "app/study/scale_identity.hpp"
#include "app/study/sweep.hpp"

namespace syncbn::app::study {
namespace {

constexpr const char* name = "parameter-scale";
constexpr std::array scales{0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0};

std::vector<Run> make_runs(const Plan& plan) {
  std::vector<Run> runs;
  for (const std::uint64_t seed : plan.seeds) {
    for (const trainer::Norm norm : norms) {
      for (const double scale : scales) {
        trainer::TrainOptions options = ioffe_szegedy(plan, norm, seed, plan.steps(750, 10000));
        options.init_scale = scale;
        options.scaled_weights = trainer::ScaledWeights::hidden;
        runs.push_back(make_run(name, {{"norm", to_string(norm)}, {"init_scale", scale}}, options));
      }
    }
  }
  return runs;
}

Sweep sweep(const Results& results, trainer::Norm norm) {
  return sweep_of(results, name, norm, "init_scale", scales);
}

std::vector<Claim> make_claims(const Results& results) {
  const std::vector<double> none = spread(sweep(results, trainer::Norm::none));
  const std::vector<double> affine = spread(sweep(results, trainer::Norm::affine));
  const std::vector<double> sync = spread(sweep(results, trainer::Norm::sync));
  std::vector<double> errors;
  for (const std::uint64_t seed : results.seeds()) {
    errors.push_back(worst_share_of_tolerance(scale_errors(seed, scales)));
  }
  const std::string range = "best test accuracy of any scale less the worst, ";
  return {{.text = "With batch norm the scale of the initial weights matters less",
           .quantity = range + "without batch norm less with it",
           .unit = "points",
           .values = points_above(none, sync)},
          {.text = "BN((aW)u) = BN(Wu), and the gradients are as that makes them",
           .quantity = "largest error, over what rounding explains",
           .unit = "",
           .test = Claim::Test::below,
           .margin = 1,
           .values = errors},
          {.text = "With batch norm it does not matter at all",
           .quantity = range + "with batch norm",
           .unit = "points",
           .test = Claim::Test::below,
           .margin = 5,
           .values = points_above(sync, std::vector<double>(sync.size()))},
          {.text = "It is not the learned scale and shift that does it",
           .quantity = range + "with a learned scale and shift alone less with batch norm",
           .unit = "points",
           .control = true,
           .values = points_above(affine, sync)}};
}

Json describe_identity(const Results& results) {
  Json listed = Json::array();
  for (const ScaleErrors& errors : scale_errors(results.seeds().front(), scales)) {
    listed.push_back({{"scale", errors.scale},
                      {"output", errors.output.error},
                      {"output_tolerance", errors.output.tolerance},
                      {"input_gradient", errors.input_gradient.error},
                      {"input_gradient_tolerance", errors.input_gradient.tolerance},
                      {"weight_gradient", errors.weight_gradient.error},
                      {"weight_gradient_tolerance", errors.weight_gradient.tolerance},
                      {"output_with_eps", errors.output_with_eps}});
  }
  return listed;
}

}  // namespace

Experiment parameter_scale(const Plan& plan) {
  return {name,
          "Batch norm makes training more resilient to the scale of the weights",
          "Ioffe & Szegedy 2015, section 3.3",
          make_runs(plan),
          make_claims,
          {{"identity", describe_identity}}};
}

}  // namespace syncbn::app::study
