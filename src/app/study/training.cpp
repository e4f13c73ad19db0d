// SPDX-License-Identifier: Apache-2.0
//
// One training of a study, by one thread for each of its ranks, and what is recorded of it.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <exception>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "app/study/run.hpp"
#include "app/threads.hpp"
#include "trainer/trainer.hpp"

namespace syncbn::app::study {
namespace {

using trainer::Part;
using trainer::StepReport;
using trainer::Trainer;

constexpr std::int64_t training_accuracy_images = 5000;
constexpr std::int64_t hidden_inputs_images = 1000;

/// Runs `work` in a thread for each rank, of which this one is rank 0. Throws what a rank throws;
/// if several do, the first that did not fail because another was missing.
void on_ranks(int count, const std::function<void(const Communicator&)>& work) {
  std::vector<Communicator> ranks = Communicator::threads(count);
  std::vector<std::exception_ptr> failures(ranks.size());
  const auto run_rank = [&](std::size_t rank) {
    set_thread_count(1);
    const Communicator mine = std::move(ranks[rank]);
    try {
      work(mine);
    } catch (...) {  // rethrown below
      failures[rank] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
      others.emplace_back(run_rank, rank);
    }
    run_rank(0);
  }
  std::exception_ptr of_communication;
  for (const std::exception_ptr& failure : failures) {
    try {
      if (failure) {
        std::rethrow_exception(failure);
      }
    } catch (const CommError&) {
      of_communication = failure;
    }
  }
  if (of_communication) {
    std::rethrow_exception(of_communication);
  }
}

/// Collects means of a training's steps between two evaluations.
class Window {
 public:
  void add(const StepReport& report) {
    ++steps_;
    loss_ += report.loss;
    accuracy_ += report.accuracy;
  }
  double loss() const { return loss_ / steps_; }
  double accuracy() const { return accuracy_ / steps_; }

 private:
  double steps_ = 0, loss_ = 0, accuracy_ = 0;
};

/// Returns the value below which there are `share` of the values, which it puts into another order.
double quantile(std::vector<float>& values, double share) {
  const auto place = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::ranges::nth_element(values, values.begin() + place);
  return values[static_cast<std::size_t>(place)];
}

/// The three percentiles of each unit's inputs.
using Percentiles = std::vector<std::array<double, 3>>;

/// Returns the percentiles that Ioffe & Szegedy (2015) draw in Fig. 1b and 1c.
Percentiles percentiles(const std::vector<float>& inputs, std::size_t units) {
  Percentiles result(units);
  std::vector<float> of_unit(inputs.size() / units);
  for (std::size_t unit = 0; unit < units; ++unit) {
    for (std::size_t image = 0; image < of_unit.size(); ++image) {
      of_unit[image] = inputs[image * units + unit];
    }
    result[unit] = {quantile(of_unit, 0.15), quantile(of_unit, 0.5), quantile(of_unit, 0.85)};
  }
  return result;
}

std::vector<double> values_of(Trainer& trainer) {
  std::vector<double> values;
  for (const trainer::Parameter* parameter : trainer.parameters()) {
    values.insert(values.end(), parameter->value.begin(), parameter->value.end());
  }
  return values;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    squares += (a[i] - b[i]) * (a[i] - b[i]);
  }
  return std::sqrt(squares);
}

/// Throws InvalidArgument if population statistics would be of a part of a batch, too.
void require_whole_batches(std::int64_t batch_size) {
  if (population_images % batch_size != 0) {
    throw InvalidArgument(
        fmt::format("population statistics of {} images are no whole batches of {} (the groups of "
                    "the last one would be smaller). Choose a batch size that divides {}.",
                    population_images, batch_size, population_images));
  }
}

/// Trains on one rank, and records on rank 0.
class Training {
 public:
  Training(const Run& run, const Communicator& ranks,
           const std::shared_ptr<const trainer::Split>& data, const Advance& advance)
      : run_(run),
        data_(data),
        advance_(advance),
        leads_(ranks.rank() == 0),
        trainer_(run.options, ranks, data) {
    if (run.recording.one_process && leads_) {
      trainer::TrainOptions options = run.options;
      options.norm_samples.reset();
      options.shards = trainer::Shards::mixed;
      one_process_.emplace(options, Communicator::self(), data);
      start_ = values_of(*one_process_);
    }
    if (run.recording.population) {
      require_whole_batches(run.options.batch_size);
      population_.emplace(run.options, ranks, data);
    }
  }

  Json run() {
    std::optional<std::int64_t> diverged_at;
    try {
      for (const std::int64_t step : run_.recording.steps) {
        train_until(step);
        evaluate();
        if (leads_) {
          advance_(static_cast<double>(step) / static_cast<double>(trainer_.steps()));
        }
      }
    } catch (const trainer::Diverged&) {
      diverged_at = trainer_.steps_done() + 1;
    }
    Json last;
    for (const auto& [quantity, values] : series_.items()) {
      if (quantity != "step" && !diverged_at) {
        last[quantity] = values.back();
      }
    }
    last["test_accuracy"] =
        diverged_at ? guessing() : series_["test_accuracy"].back().get<double>();
    last["train_accuracy"] =
        diverged_at ? guessing() : trainer_.evaluate(Part::train, training_images());
    if (population_) {
      last["population_train_accuracy"] =
          diverged_at ? guessing() : population_->evaluate(Part::train, training_images());
    }
    return {{"diverged_at", diverged_at ? Json(*diverged_at) : Json(nullptr)},
            {"series", series_},
            {"final", last}};
  }

 private:
  double guessing() const { return 1 / static_cast<double>(trainer_.classes()); }
  std::int64_t training_images() const {
    return std::min(training_accuracy_images,
                    run_.options.training_images.value_or(training_accuracy_images));
  }

  void train_until(std::int64_t step) {
    window_ = {};
    while (trainer_.steps_done() < step) {
      window_.add(trainer_.step());
      if (one_process_) {
        step_one_process();
      }
    }
  }

  /// The other ranks do not see whether this one diverges.
  void step_one_process() {
    try {
      one_process_->step();
    } catch (const trainer::Diverged&) {
      one_process_.reset();
    }
  }

  /// Throws Diverged if a step has left parameters that would show in the next one's loss.
  void require_finite_parameters() {
    for (const trainer::Parameter* parameter : trainer_.parameters()) {
      if (!std::ranges::all_of(parameter->value,
                               [](float value) { return std::isfinite(value); })) {
        throw trainer::Diverged(parameter->name + " is not finite");
      }
    }
  }

  void evaluate() {
    require_finite_parameters();
    note("step", trainer_.steps_done());
    note("loss", window_.loss());
    note("batch_accuracy", window_.accuracy());
    note("test_accuracy", trainer_.evaluate(Part::test, data_->test.size()));
    if (run_.recording.hidden_inputs && leads_) {
      note_hidden_inputs();
    }
    if (run_.recording.one_process && leads_) {
      note_distance();
    }
    if (population_) {
      population_->copy_parameters(trainer_);
      population_->take_population_statistics(population_images);
      note("population_accuracy", population_->evaluate(Part::test, data_->test.size()));
    }
  }

  /// Notes the percentiles of the first unit, and how far those of all units have come since the
  /// last time.
  void note_hidden_inputs() {
    const std::int64_t images = std::min(hidden_inputs_images, data_->test.size());
    const std::vector<float> inputs = trainer_.last_hidden_inputs(images);
    const Percentiles now = percentiles(inputs, inputs.size() / static_cast<std::size_t>(images));
    double moved = 0, width = 0;
    for (std::size_t unit = 0; unit < now.size(); ++unit) {
      for (std::size_t i = 0; i < 3; ++i) {
        moved += percentiles_.empty() ? 0 : std::abs(now[unit][i] - percentiles_[unit][i]) / 3;
      }
      width += now[unit][2] - now[unit][0];
    }
    const auto units = static_cast<double>(now.size());
    note("hidden_p15", now[0][0]);
    note("hidden_p50", now[0][1]);
    note("hidden_p85", now[0][2]);
    note("hidden_moved", moved / units);
    note("hidden_width", width / units);
    percentiles_ = now;
  }

  /// Notes how far the parameters are from those of one process, relative to how far these have
  /// come. If that process has diverged, there is no distance: null.
  void note_distance() {
    if (!one_process_) {
      note("distance", nullptr);
      return;
    }
    const std::vector<double> theirs = values_of(*one_process_);
    const double come = distance(theirs, start_);
    note("distance", come > 0 ? distance(values_of(trainer_), theirs) / come : 0);
  }

  template <class T>
  void note(const char* quantity, T value) {
    series_[quantity].push_back(value);
  }

  const Run& run_;
  std::shared_ptr<const trainer::Split> data_;
  const Advance& advance_;
  bool leads_;
  Trainer trainer_;
  std::optional<Trainer> one_process_;  ///< takes the same steps beside it; on rank 0
  std::optional<Trainer> population_;   ///< is given the parameters, to evaluate them otherwise
  std::vector<double> start_;           ///< parameters before the first step
  Window window_;
  Percentiles percentiles_;
  Json series_ = Json::object();
};

}  // namespace

Json train(const Run& run, const std::shared_ptr<const trainer::Split>& data,
           const Advance& advance) {
  Json result;
  on_ranks(run.ranks, [&](const Communicator& ranks) {
    Json mine = Training(run, ranks, data, advance).run();
    if (ranks.rank() == 0) {
      result = std::move(mine);
    }
  });
  return result;
}

}  // namespace syncbn::app::study
