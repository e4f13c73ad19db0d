// SPDX-License-Identifier: Apache-2.0
//
// The claims of each experiment, on results that were made up: as the claims have it, with batch
// norm and its rivals exchanged, and with controls that do the same as batch norm.
#include "app/study/experiments.hpp"

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncbn::app::study {
namespace {

/// What a run is about, which a test may exchange for what another is about.
struct Subject {
  std::string norm;
  Json variant;

  double number(const char* factor) const { return variant.value(factor, 0.0); }
};

/// Says what a run finds after a share of its steps: "test_accuracy" and the like.
using World = std::function<double(const Subject&, const std::string& quantity, double share)>;

const std::vector<std::string> quantities{"test_accuracy",
                                          "train_accuracy",
                                          "batch_accuracy",
                                          "population_accuracy",
                                          "population_train_accuracy",
                                          "hidden_width",
                                          "hidden_moved",
                                          "distance"};

/// Returns a factor near 1 that differs from seed to seed and from subject to subject.
double unequal(const Subject& subject, std::uint64_t seed) {
  const std::string about = subject.norm + subject.variant.dump() + std::to_string(seed);
  const std::size_t mixed = std::hash<std::string>()(about);
  return 1 + 0.004 * (static_cast<double>(mixed % 1000) / 1000 - 0.5);
}

Json made_up(const Run& run, const Subject& subject, const World& world) {
  Json series, last;
  for (const std::int64_t step : run.recording.steps) {
    series["step"].push_back(step);
    for (const std::string& quantity : quantities) {
      const double share =
          static_cast<double>(step) / static_cast<double>(run.recording.steps.back());
      last[quantity] = world(subject, quantity, share) * unequal(subject, run.options.seed);
      series[quantity].push_back(last[quantity]);
    }
  }
  return {{"diverged_at", nullptr}, {"series", series}, {"final", last}};
}

/// What is claimed of an experiment's runs, as numbers.
struct Case {
  const char* name;
  Experiment (*make)(const Plan&);
  World world;
  /// What the runs of the other side are about when both sides are exchanged.
  std::function<void(Subject&)> exchange;
  /// What the runs of the control are about when it does the same as what it is compared with.
  std::function<void(Subject&)> spoil_control;

  friend void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }
};

void exchange_norms(Subject& subject) {
  subject.norm = subject.norm == "sync" ? "none" : "sync";
}

void exchange_local_and_sync(Subject& subject) {
  subject.norm = subject.norm == "sync" ? "local" : subject.norm == "local" ? "sync" : subject.norm;
}

std::function<void(Subject&)> affine_does_as(const char* norm) {
  return
      [norm](Subject& subject) { subject.norm = subject.norm == "affine" ? norm : subject.norm; };
}

bool with(const Subject& subject) {
  return subject.norm == "sync";
}

double of_course(const Subject& subject, const std::string& quantity, double share) {
  if (quantity == "hidden_width") {
    return with(subject) ? 1 : share;
  }
  if (quantity == "hidden_moved") {
    return with(subject) ? 0.01 : 0.1;
  }
  return with(subject) || share > 0.1 ? 0.8 : 0.2;
}

double of_rates(const Subject& subject, const std::string&, double) {
  return subject.number("learning_rate") <= (with(subject) ? 30 : 1) ? 0.8 : 0.1;
}

double of_scales(const Subject& subject, const std::string&, double) {
  return with(subject) || subject.number("init_scale") == 1 ? 0.8 : 0.3;
}

double of_depths(const Subject& subject, const std::string&, double) {
  return with(subject) ? 0.8 : 0.1;
}

double of_dropouts(const Subject& subject, const std::string& quantity, double) {
  return quantity == "train_accuracy" ? 0.9 : with(subject) ? 0.85 : 0.7;
}

double of_ranks(const Subject& subject, const std::string& quantity, double) {
  const bool alone = subject.norm == "local" && subject.number("ranks") > 1;
  return quantity == "distance" ? (alone ? 1 : 1e-6) : alone ? 0.3 : 0.7;
}

double of_groups(const Subject& subject, const std::string&, double) {
  return with(subject) && subject.number("samples") == 2 ? 0.4 : 0.75;
}

double of_leakage(const Subject& subject, const std::string& quantity, double) {
  const bool cheats = subject.norm == "local" && subject.variant["shards"] == "by-label";
  return quantity == "batch_accuracy" ? (cheats ? 0.8 : 0.6) : 0.7;
}

const std::vector<Case> cases{
    {"FasterTraining", faster_training, of_course, exchange_norms, affine_does_as("sync")},
    {"Activations", activations, of_course, exchange_norms, affine_does_as("sync")},
    {"LearningRates", learning_rates, of_rates, exchange_norms, affine_does_as("sync")},
    {"ParameterScale", parameter_scale, of_scales, exchange_norms, affine_does_as("sync")},
    {"Saturating", saturating, of_depths, exchange_norms, affine_does_as("sync")},
    {"Regularization", regularization, of_dropouts, exchange_norms, affine_does_as("sync")},
    {"Synchronize", synchronize, of_ranks, exchange_local_and_sync, affine_does_as("local")},
    {"GroupSize", group_size, of_groups,
     [](Subject& subject) { subject.variant["samples"] = 34 - subject.number("samples"); },
     [](Subject& subject) {
       if (subject.norm == "affine") {
         subject.norm = "sync";
         subject.variant["samples"] = 2;
       }
     }},
    {"Leakage", leakage, of_leakage, exchange_local_and_sync, affine_does_as("local")}};

class Claims : public testing::TestWithParam<Case> {
 protected:
  /// Returns the verdict of the experiment where `change` was made to what the runs are about.
  static Verdict verdict_with(const std::function<void(Subject&)>& change) {
    const Plan plan{.data = {}, .seeds = {1, 2, 3, 4}, .most_steps = {}};
    const Experiment experiment = GetParam().make(plan);
    std::map<std::string, Json> found;
    for (const study::Run& run : experiment.runs) {
      Subject subject{run.variant["norm"], run.variant};
      subject.variant.erase("norm");
      change(subject);
      found[run.name] = made_up(run, subject, GetParam().world);
    }
    return verdict(experiment.claims(Results(std::move(found), plan.seeds)));
  }
};

TEST_P(Claims, HoldWhereTheResultsAreAsTheySay) {
  EXPECT_EQ(verdict_with([](Subject&) {}), Verdict::held);
}

TEST_P(Claims, DoNotHoldWhereTheOtherSideIsBetter) {
  EXPECT_EQ(verdict_with(GetParam().exchange), Verdict::did_not_hold);
}

TEST_P(Claims, DoNotHoldWhereTheControlDoesTheSame) {
  EXPECT_NE(verdict_with(GetParam().spoil_control), Verdict::held);
}

INSTANTIATE_TEST_SUITE_P(, Claims, testing::ValuesIn(cases),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace syncbn::app::study
