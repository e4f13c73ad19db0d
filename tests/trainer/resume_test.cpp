// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <functional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"
#include "syncbn/state.hpp"

#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "trainer/idx_files.hpp"
#include "trainer/trainer.hpp"
#include "trainer/training_directory.hpp"

namespace syncbn::trainer {
namespace {

using test::barrier;
using test::losses_of;
using test::on_ranks;
using test::read_bytes;
using test::refusal;
using test::TrainingDirectory;
using testing::HasSubstr;

/// All steps at once against half of them, a checkpoint, and the rest: the same losses and the same
/// last checkpoint, bit for bit.
void expect_seamless(const TrainOptions& base, const TrainingDirectory& directory,
                     const Communicator& ranks) {
  TrainOptions whole = base;
  whole.save = directory / "whole.safetensors";
  const std::vector<double> expected = losses_of(whole, ranks);

  TrainOptions first = base;
  first.steps = *base.steps / 2;
  first.save = directory / "half.safetensors";
  std::vector<double> losses = losses_of(first, ranks);

  TrainOptions second = base;
  second.resume = first.save;
  second.save = directory / "resumed.safetensors";
  const std::vector<double> rest = losses_of(second, ranks);
  losses.insert(losses.end(), rest.begin(), rest.end());

  EXPECT_EQ(losses, expected);
  EXPECT_EQ(read_bytes(second.save), read_bytes(whole.save));
  EXPECT_NE(read_bytes(first.save), read_bytes(whole.save));
}

TEST(Resume, ContinuesBitForBit) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(30);
    options.dropout = 0.2;
    expect_seamless(options, directory, ranks);
    options.steps = 12;
    for (const Norm norm : {Norm::local, Norm::none}) {
      SCOPED_TRACE(to_string(norm));
      options.norm = norm;
      expect_seamless(options, directory, ranks);
    }
    options.network = Network::mlp;
    options.batch_size = 3;  // empty shards with four ranks
    for (const Norm norm : {Norm::sync, Norm::local}) {
      SCOPED_TRACE(to_string(norm));
      options.norm = norm;
      expect_seamless(options, directory, ranks);
    }
  });
}

/// What a killed run leaves: the checkpoint of some step, taken while it went on.
TEST(Resume, GoesOnFromAnIntermediateCheckpoint) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(12);
    options.schedule = Schedule::cosine;
    const std::vector<double> expected = losses_of(options, ranks);

    struct Killed {};
    class KillAfterNine final : public Observer {
      void on_step(const StepReport& report) override {
        if (report.step == 9) {
          throw Killed();
        }
      }
    } observer;
    options.save = directory / "run.safetensors";
    options.save_every = 7;
    EXPECT_THROW(Trainer(options, ranks).run(observer), Killed);
    barrier(ranks);

    options.resume = options.save;
    const std::vector<double> rest = losses_of(options, ranks);
    EXPECT_EQ(rest, std::vector<double>(expected.begin() + 7, expected.end()));
  });
}

/// One rank alone is asked to stop, in the fifth step.
TEST(Resume, GoesOnFromWhereARankWasAskedToStop) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(12);
    options.schedule = Schedule::cosine;
    const std::vector<double> expected = losses_of(options, ranks);

    options.save = directory / "run.safetensors";
    test::Losses losses;
    const bool is_asked = ranks.rank() == ranks.size() - 1;
    const RunReport stopped = Trainer(options, ranks).run(losses, nullptr, [&] {
      return is_asked && losses.values().size() == 4;
    });
    EXPECT_TRUE(stopped.stopped);
    EXPECT_EQ(stopped.steps, 5);

    options.resume = options.save;
    Trainer rest(options, ranks);
    EXPECT_EQ(rest.steps_done(), 5);
    EXPECT_FALSE(rest.run(losses).stopped);
    EXPECT_EQ(losses.values(), expected);
  });
}

/// A run that is asked in its last step has nothing left to do.
TEST(Resume, DoesNotCountARunAsStoppedThatIsDone) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    test::Losses losses;
    const RunReport run = Trainer(directory.options(4), ranks).run(losses, nullptr, [&] {
      return losses.values().size() == 3;
    });
    EXPECT_FALSE(run.stopped);
    EXPECT_EQ(run.steps, 4);
    EXPECT_GT(run.test_accuracy, 0);
  });
}

TEST(Resume, AtTheEndOnlyEvaluates) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(4);
    options.save = directory / "run.safetensors";
    test::Losses losses;
    const RunReport run = Trainer(options, ranks).run(losses);
    options.resume = options.save;
    const RunReport again = Trainer(options, ranks).run(losses);
    EXPECT_EQ(again.steps, 0);
    EXPECT_EQ(again.test_accuracy, run.test_accuracy);
    EXPECT_EQ(losses.values().size(), 4);
  });
}

TEST(Checkpoint, UsesTheNamesOfPyTorch) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(4);
    options.save = directory / "run.safetensors";
    losses_of(options, ranks);
    const StateDict state = load_safetensors(options.save);
    for (const char* name : {"conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean",
                             "bn3.running_var", "dense1.bias", "velocity.conv1.weight"}) {
      EXPECT_TRUE(state.tensors.contains(name)) << name;
    }
    EXPECT_EQ(state.tensors.at("conv2.weight").shape, (std::vector<std::int64_t>{32, 16, 3, 3}));
    EXPECT_EQ(state.tensors.at("bn1.num_batches_tracked").as_integer("count"), 4);
    EXPECT_EQ(state.metadata.at("step"), "4");
  });
}

TEST(Resume, RefusesTheCheckpointOfAnotherRun) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions saved = directory.options(4);
    saved.save = directory / "run.safetensors";
    losses_of(saved, ranks);
    saved.save.clear();
    saved.resume = directory / "run.safetensors";
    EXPECT_EQ(refusal(saved, ranks), "");

    const auto refused = [&](const std::function<void(TrainOptions&)>& change) {
      TrainOptions options = saved;
      change(options);
      return refusal(options, ranks);
    };
    EXPECT_THAT(refused([](auto& o) { o.seed = 2; }), HasSubstr("seed is 1 there and 2 here"));
    EXPECT_THAT(refused([](auto& o) { o.network = Network::mlp; }), HasSubstr("model is cnn"));
    EXPECT_THAT(refused([](auto& o) { o.norm = Norm::local; }), HasSubstr("norm is sync"));
    EXPECT_THAT(refused([](auto& o) { o.batch_size = 12; }), HasSubstr("batch-size is 13"));
    EXPECT_THAT(refused([](auto& o) { o.steps = 3; }), HasSubstr("at step 4 already"));
  });
}

TEST(Resume, RefusesADamagedFileAndLeavesIt) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(4);
    options.save = directory / "run.safetensors";
    losses_of(options, ranks);
    options.resume = directory / "damaged.safetensors";
    options.save.clear();
    EXPECT_THAT(refusal(options, ranks), HasSubstr("damaged.safetensors"));  // it is not there yet

    const test::Bytes good = read_bytes(directory / "run.safetensors");
    const test::Bytes cut(good.begin(), good.end() - 1);
    test::Bytes flipped = good;
    flipped[flipped.size() - 3] ^= 1;  // a weight's last place, or near it
    for (const test::Bytes& bad : {cut, flipped}) {
      barrier(ranks);
      if (ranks.rank() == 0) {
        test::write_file(options.resume, bad);
      }
      barrier(ranks);
      EXPECT_THAT(refusal(options, ranks), HasSubstr("damaged.safetensors"));
      EXPECT_EQ(read_bytes(options.resume), bad);
    }
  });
}

TEST(Resume, RefusesAWeightBeyondFloat) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(2);
    options.save = directory / "run.safetensors";
    losses_of(options, ranks);
    barrier(ranks);
    if (ranks.rank() == 0) {
      StateDict state = load_safetensors(options.save);
      StateTensor& bias = state.tensors.at("dense1.bias");
      std::vector<double> values = bias.as_doubles("dense1.bias");
      values.back() = 1e300;
      bias = StateTensor::from(values);
      save_safetensors(state, options.save);
    }
    barrier(ranks);
    options.resume = options.save;
    EXPECT_THAT(refusal(options, ranks), HasSubstr("beyond the range of float"));
  });
}

TEST(Resume, RefusesACheckpointWithoutATensor) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    for (const Norm norm : {Norm::sync, Norm::local}) {
      TrainOptions options = directory.options(4);
      options.norm = norm;
      options.save = directory / "run.safetensors";
      losses_of(options, ranks);
      const int last = ranks.size() - 1;
      const std::string gone = norm == Norm::local && last > 0
                                   ? "rank" + std::to_string(last) + ".bn2.running_var"
                                   : "bn2.running_var";
      barrier(ranks);
      if (ranks.rank() == 0) {
        StateDict state = load_safetensors(options.save);
        EXPECT_EQ(state.tensors.erase(gone), 1);
        save_safetensors(state, options.save);
      }
      barrier(ranks);
      options.resume = options.save;
      EXPECT_THAT(refusal(options, ranks), HasSubstr(gone));
    }
  });
}

TEST(Checkpoint, IsNotReplacedByOneThatIsNotFinite) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    // Weights that are infinite, and weights that are not but have no finite loss.
    for (const double rate : {1e43, 1e39}) {
      SCOPED_TRACE(rate);
      TrainOptions options = directory.options(1);
      options.norm = rate > 1e40 ? Norm::local : Norm::sync;
      options.save = directory / "run.safetensors";
      losses_of(options, ranks);
      const test::Bytes good = read_bytes(options.save);
      options.learning_rate = rate;
      barrier(ranks);
      EXPECT_THAT(test::failure_of<FileError>([&] { losses_of(options, ranks); }),
                  testing::AllOf(HasSubstr("after step 1"), HasSubstr("not finite")));
      EXPECT_TRUE(read_bytes(options.save) == good);
      barrier(ranks);
    }
  });
}

/// One bit of a weight is enough: the ranks would train on with different weights.
TEST(Checkpoint, OfOtherValuesOnOneRankIsRefused) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(2);
    options.save = directory / "run.safetensors";
    losses_of(options, ranks);
    const int last = ranks.size() - 1;
    options.resume = directory / ("of rank " + std::to_string(ranks.rank()));
    barrier(ranks);
    StateDict state = load_safetensors(options.save);
    if (ranks.rank() == last) {
      state.tensors.at("conv2.weight").bytes[400] ^= std::byte{1};
    }
    save_safetensors(state, options.resume);
    options.save.clear();
    const std::string why = refusal(options, ranks);
    if (last == 0) {
      EXPECT_EQ(why, "");
    } else {
      EXPECT_THAT(why, testing::AllOf(HasSubstr("different checkpoints"),
                                      HasSubstr("rank " + std::to_string(last) + ": step 2, ")));
    }
  });
}

TEST(Checkpoint, ThatFailsWhileTrainingEndsItOnAllRanks) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(2);
    options.save = directory / "run.safetensors";
    Trainer trainer(options, ranks);
    barrier(ranks);
    if (ranks.rank() == 0) {
      std::filesystem::create_directory(options.save);
    }
    barrier(ranks);
    test::Losses losses;
    EXPECT_THROW(trainer.run(losses), FileError);
    EXPECT_EQ(losses.values().size(), 2);
  });
}

}  // namespace
}  // namespace syncbn::trainer
