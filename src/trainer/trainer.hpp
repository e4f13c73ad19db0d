// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "trainer/checkpoint.hpp"
#include "trainer/dataset.hpp"
#include "trainer/model.hpp"
#include "trainer/report.hpp"
#include "trainer/sampler.hpp"
#include "trainer/sgd.hpp"
#include "trainer/snapshots.hpp"
#include "trainer/tensor_memory.hpp"
#include "trainer/train_options.hpp"

namespace syncbn::trainer {

/// Is called where an exchange has failed. Collective over the ranks that are left: returns a
/// communicator of them. Throws if none of the old ranks is lost, so that the exchange failed for
/// another reason, or if the others do not come; the run then ends.
using Recover = std::function<Communicator(const CommError& failure)>;

/// Is asked after each step on each rank whether the run should stop before its end, because this
/// rank's host is about to be taken away.
using StopAsked = std::function<bool()>;

/// Diverged says that the loss is no longer finite. All ranks throw it in the same step.
class Diverged : public Error {
  using Error::Error;
};

enum class Part : std::uint8_t { train, test };

/// Collective. Loads a data set on every rank. Throws FileError on all of them if they are not the
/// same on all.
std::shared_ptr<const Split> load_everywhere(const std::filesystem::path& directory,
                                             const Communicator& ranks);

/// Trains data-parallel. Each step takes the same global batch whatever the number of ranks. Each
/// rank takes a shard of it, and the gradients and losses of all samples are summed over the ranks
/// in one all-reduce of doubles. With Norm::sync (and Norm::none) the losses are those of one rank,
/// up to rounding.
///
/// Prints nothing. Errors of the files are thrown on all ranks. Whether a checkpoint can be written
/// is not tried before there is one.
class Trainer {
 public:
  /// Collective, with the same options on all ranks. Reads the data and, if there is one, the
  /// checkpoint to resume from.
  Trainer(const TrainOptions& options, const Communicator& ranks);
  /// The same with `data` in place of what is in the options' directory.
  Trainer(const TrainOptions& options, const Communicator& ranks,
          std::shared_ptr<const Split> data);

  /// Returns the steps done so far: at first 0, or those of the checkpoint.
  std::int64_t steps_done() const { return step_; }
  std::int64_t steps() const { return steps_; }
  std::int64_t steps_per_epoch() const { return sampler_.steps_per_epoch(); }
  const Dataset& training_data() const { return data_->train; }
  std::int64_t classes() const { return model_.output_size(); }
  std::int64_t parameter_count() const;

  /// Collective. Trains to the end and evaluates. Throws Diverged if the loss is not finite, and
  /// FileError instead of saving weights that give no finite loss; the last checkpoint is then from
  /// before.
  ///
  /// With `recover`, ranks may be lost: the others go back to the last step that all of them have
  /// done. From there on they are what a run of as many ranks is that resumes from a checkpoint of
  /// that step, with the values of the lowest of them. With Norm::local each keeps its own running
  /// statistics.
  ///
  /// With `stop_asked`, a rank that is asked to stop has all ranks stop after the step that it is
  /// in, with a checkpoint if there is a file for it: ranks tell each other along with the
  /// gradients.
  RunReport run(Observer& observer, const Recover& recover = nullptr,
                const StopAsked& stop_asked = nullptr);

  /// Collective. Takes one training step and nothing else: no evaluation and no checkpoint. For
  /// whoever times or studies steps. Throws Diverged.
  StepReport step();

  /// Collective. Returns which part of the first `images` images of a part the model, as it is used
  /// after training, takes for what they are.
  double evaluate(Part part, std::int64_t images);

  /// Local. Returns the input of the last hidden layer's activation for the first `images` test
  /// images, [images, units], as the model is used after training. Throws NotConfigured if the
  /// activation is fused with batch norm, as relu is.
  std::vector<float> last_hidden_inputs(std::int64_t images);

  /// Collective. Replaces the running statistics of batch norm by those of a population
  /// (syncbn/population.hpp): the first `images` training images, in batches as training takes
  /// them, with the weights as they are. Throws InvalidArgument if these have diverged.
  void take_population_statistics(std::int64_t images);

  /// Local. Takes over the values of another trainer's parameters, of the same network.
  void copy_parameters(Trainer& other);

  /// Returns the parameters, the same on all ranks.
  std::span<Parameter* const> parameters() { return model_.parameters(); }

 private:
  void train(Observer& observer);
  void take_step(Observer& observer);
  void go_on_with(const Communicator& survivors, Observer& observer);
  /// What a forward of this rank's samples gives, summed over them.
  struct ShardReport {
    double loss = 0;
    std::int64_t correct = 0;
  };
  void run_batch(std::span<const std::int64_t> batch);
  std::span<const std::int64_t> own_part(std::span<const std::int64_t> batch);
  ShardReport run_shard(const Pass& pass);
  void exchange_gradients(const ShardReport& shard, std::int64_t images);
  std::span<const double> mean_gradients() const;
  double mean_loss() const;
  double accuracy() const;
  bool stops() const;
  void infer(Part part, Range images, const std::function<void(std::span<const float>)>& see);
  const Dataset& part(Part which) const {
    return which == Part::train ? data_->train : data_->test;
  }
  bool checkpoint_is_due() const;
  void require_finite_loss();
  void save();
  void load_images(const Dataset& data, std::span<const std::int64_t> samples);
  RunIdentity identity() const;
  Trained trained();

  TrainOptions options_;
  Communicator exchange_;  ///< for gradients; batch norm's messages are counted apart
  std::shared_ptr<const Split> data_;
  std::array<float, 256> value_of_;
  Communicator norm_group_;
  Model model_;
  Sgd sgd_;
  Sampler sampler_;
  std::int64_t steps_;
  std::int64_t step_ = 0;
  RunReport run_;
  StopAsked stop_asked_;
  std::optional<Snapshots> snapshots_;  ///< if the run can go on without lost ranks

  // These are reused from step to step.
  TensorBuffer<float> images_;           ///< [shard, height * width]
  std::vector<std::uint8_t> labels_;     ///< [shard]
  TensorBuffer<float> logit_gradients_;  ///< [shard, classes]
  std::vector<std::int64_t> by_label_;   ///< the global batch, sorted
  std::vector<double> message_;          ///< all gradients, loss, right answers, ranks to stop
};

}  // namespace syncbn::trainer
