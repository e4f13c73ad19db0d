// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/json.hpp"
#include "trainer/dataset.hpp"
#include "trainer/train_options.hpp"

namespace syncbn::app::study {

/// A Recording says what is written down of a training, besides losses and accuracies.
struct Recording {
  std::vector<std::int64_t> steps;  ///< after which it is evaluated; the last one is the end
  bool hidden_inputs = false;       ///< the inputs of the last hidden layer's units
  bool one_process = false;         ///< how far the parameters are from those of one process
  bool population = false;  ///< accuracies with population statistics in place of running ones
};

/// So many training images give population statistics. They are whole batches of 8, 32 and 60: a
/// last batch that is smaller would have smaller groups than training.
inline constexpr std::int64_t population_images = 960;

/// A Run is one training of a study: a variant of an experiment with one seed. Its result depends
/// on nothing but itself and the data set.
struct Run {
  std::string name;                      ///< for its file: "learning-rates-sync-0.1-1"
  std::vector<std::string> experiments;  ///< that use it
  Json variant = Json::object();         ///< what distinguishes it from others: {"norm": "sync"}
  trainer::TrainOptions options = {};
  int ranks = 1;  ///< threads that act as ranks
  Recording recording = {};

  /// Returns the expected time, in that of a training step on 60 images with batch norm.
  double weight() const;
};

/// Makes a run of an experiment, with its name, which is evaluated at its end. `options` have the
/// seed and the number of steps.
Run make_run(const std::string& experiment, const Json& variant,
             const trainer::TrainOptions& options, int ranks = 1);

/// Returns the name that make_run gives.
std::string run_name(const std::string& experiment, const Json& variant, std::uint64_t seed);

/// Returns what a factor of a variant is called in names and in study.csv: "sync", "0.1".
std::string text_of(const Json& factor);

/// Returns up to `count` steps at equal distances, the last of which is `steps`.
std::vector<std::int64_t> checkpoints(std::int64_t steps, std::int64_t count);

/// Is called from time to time by a run, with how much of it is done. [0, 1]
using Advance = std::function<void(double done)>;

/// Local. Trains, in as many threads as the run has ranks, and returns what was recorded: see
/// report.hpp. A training that diverges is a result.
Json train(const Run& run, const std::shared_ptr<const trainer::Split>& data,
           const Advance& advance);

}  // namespace syncbn::app::study
