// SPDX-License-Identifier: Apache-2.0
//
// Ioffe & Szegedy (2015), section 3.3: BN((aW)u) = BN(Wu), the gradient of u is unchanged, and that
// of aW is that of W over a. Here is what that means for training, a sweep of the initial scale of
// the weights over six decades; the identity itself is checked in scale_identity.cpp.
#include <array>

#include "app/study/experiments.hpp"
#include "app/study/ioffe_szegedy.hpp"
#include "app/study/scale_identity.hpp"
#include "app/study/sweep.hpp"

namespace syncbn::app::study {
namespace {

constexpr const char* name = "parameter-scale";
constexpr std::array scales{0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0};
constexpr double decades_apart = 1;

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
  const Sweep none = sweep(results, trainer::Norm::none);
  const Sweep affine = sweep(results, trainer::Norm::affine);
  const Sweep sync = sweep(results, trainer::Norm::sync);
  const std::array<const Sweep*, 3> all{&none, &affine, &sync};
  std::vector<double> errors, control;
  for (const std::uint64_t seed : results.seeds()) {
    errors.push_back(worst_share_of_tolerance(scale_errors(seed, scales)));
    control.push_back(smallest_change_without_batch_norm(seed, scales));
  }
  return {
      {.text = "With batch norm more initial scales do",
       .quantity = "range of scales within 5 points of the best accuracy of any network, with "
                   "batch norm less without",
       .unit = "decades",
       .values = difference(decades(sync, all, decades_apart), decades(none, all, decades_apart))},
      {.text = "BN((aW)u) = BN(Wu), and the gradients are as that makes them",
       .quantity = "largest error, over what rounding explains",
       .unit = "",
       .test = Claim::Test::within,
       .margin = 1,
       .values = errors},
      {.text = "A learned scale and shift alone changes with the scale of the weights",
       .quantity = "smallest change of the output, relative to the largest output",
       .unit = "",
       .margin = 0.1,
       .control = true,
       .values = control},
      {.text = "It is not the learned scale and shift that does it",
       .quantity = "range of scales within 5 points of the best accuracy of any network, with "
                   "batch norm less with a learned scale and shift alone",
       .unit = "decades",
       .control = true,
       .values =
           difference(decades(sync, all, decades_apart), decades(affine, all, decades_apart))}};
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
          "Batch norm makes training independent of the scale of the weights",
          "Ioffe & Szegedy 2015, section 3.3",
          make_runs(plan),
          make_claims,
          {{"identity", describe_identity}}};
}

}  // namespace syncbn::app::study
