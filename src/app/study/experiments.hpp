// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "app/study/claim.hpp"
#include "app/study/plan.hpp"
#include "app/study/results.hpp"
#include "app/study/run.hpp"

namespace syncbn::app::study {

/// An Experiment is a question to batch norm: the runs that it takes, and what is claimed of them.
struct Experiment {
  std::string name;
  std::string title;
  std::string source;  ///< who claims it, and where
  std::vector<Run> runs;
  /// What is claimed, judged by the results of all runs; the first claim is the main one.
  std::vector<Claim> (*claims)(const Results& results);
  /// What study.json has of this experiment alone: the field's name, and what gives its value.
  std::vector<std::pair<std::string, Json (*)(const Results& results)>> fields = {};
};

/// Each returns one experiment as the plan has it. The claims are in the same file as the runs.
Experiment faster_training(const Plan& plan);
Experiment activations(const Plan& plan);
Experiment learning_rates(const Plan& plan);
Experiment parameter_scale(const Plan& plan);
Experiment saturating(const Plan& plan);
Experiment regularization(const Plan& plan);
Experiment synchronize(const Plan& plan);
Experiment group_size(const Plan& plan);
Experiment leakage(const Plan& plan);

}  // namespace syncbn::app::study
