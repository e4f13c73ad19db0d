// SPDX-License-Identifier: Apache-2.0
#include "trainer/trainer.hpp"

#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "support/on_ranks.hpp"
#include "support/worst.hpp"
#include "trainer/idx_files.hpp"
#include "trainer/training_directory.hpp"

namespace syncbn::trainer {
namespace {

using test::losses_of;
using test::on_ranks;
using test::refusal;
using test::TrainingDirectory;
using testing::AllOf;
using testing::HasSubstr;

double worst_difference(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  test::Worst worst;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    worst.see(std::abs(a[i] - b[i]) / std::abs(b[i]));
  }
  return worst.value();
}

/// Rounding in float, gathered over 20 steps.
constexpr double tolerance = 1e-4;

TEST(Training, HasTheLossesOfOneRank) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    for (const Network network : {Network::mlp, Network::cnn}) {
      TrainOptions options = directory.options(20);
      options.network = network;
      const std::vector<double> alone = losses_of(options, Communicator::self());
      EXPECT_LT(worst_difference(losses_of(options, ranks), alone), tolerance);
      EXPECT_LT(alone.back(), alone.front());
    }
  });
}

TEST(Training, DoesNotDependOnHowTheBatchIsSpread) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(20);
    options.dropout = 0.3;
    for (const dnn::Function activation : {dnn::Function::tanh, dnn::Function::relu}) {
      options.activation = activation;
      options.norm = activation == dnn::Function::tanh ? Norm::sync : Norm::none;
      EXPECT_LT(
          worst_difference(losses_of(options, ranks), losses_of(options, Communicator::self())),
          tolerance);
    }
  });
}

/// With three ranks and more some have nothing, in every layer.
TEST(Training, TakesFewerSamplesThanRanks) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(20);
    options.batch_size = 2;
    options.activation = dnn::Function::tanh;
    EXPECT_LT(worst_difference(losses_of(options, ranks), losses_of(options, Communicator::self())),
              tolerance);
  });
}

TEST(Training, WithLocalStatisticsHasOtherLosses) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(20);
    options.batch_size = 4 * ranks.size();
    options.norm = Norm::local;
    const double difference =
        worst_difference(losses_of(options, ranks), losses_of(options, Communicator::self()));
    if (ranks.size() == 1) {
      EXPECT_EQ(difference, 0);
    } else {
      EXPECT_GT(difference, 100 * tolerance);
    }
  });
}

TEST(Training, WithoutBatchNormDoesNotDependOnTheRanks) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    for (const Network network : {Network::mlp, Network::cnn}) {
      TrainOptions options = directory.options(20);
      options.network = network;
      options.norm = Norm::affine;
      const std::vector<double> alone = losses_of(options, Communicator::self());
      EXPECT_LT(worst_difference(losses_of(options, ranks), alone), tolerance);
      options.norm = Norm::sync;
      EXPECT_GT(worst_difference(losses_of(options, Communicator::self()), alone), tolerance);
    }
  });
}

TEST(Training, TakesStatisticsOverGroupsOfEnoughSamples) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(20);
    options.batch_size = 4 * ranks.size();
    options.norm_samples = 4 * ranks.size();
    const std::vector<double> in_one_group = losses_of(options, ranks);
    options.norm_samples = 4;
    const std::vector<double> each_alone = losses_of(options, ranks);
    options.norm_samples.reset();
    EXPECT_EQ(in_one_group, losses_of(options, ranks));
    options.norm = Norm::local;
    EXPECT_EQ(each_alone, losses_of(options, ranks));
  });
}

TEST(Training, SortsShardsByLabelWithoutChangingTheBatch) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(20);
    options.batch_size = 4 * ranks.size();
    const std::vector<double> mixed = losses_of(options, ranks);
    options.shards = Shards::by_label;
    EXPECT_LT(worst_difference(losses_of(options, ranks), mixed), tolerance);
    options.norm = Norm::local;
    const std::vector<double> local = losses_of(options, ranks);
    if (ranks.size() > 1) {
      EXPECT_GT(worst_difference(local, mixed), 100 * tolerance);
    }
  });
}

TEST(Training, TakesNoMoreThanSoManyImages) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(20);
    options.batch_size = 6;
    options.training_images = 12;
    Trainer trainer(options, ranks);
    EXPECT_EQ(trainer.steps_per_epoch(), 2);
  });
}

TEST(Training, TellsWhatItsParametersAre) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(20);
    options.network = Network::mlp;
    options.hidden_layers = 5;
    options.inputs = Inputs::binary;
    options.init_scale = 10;
    Trainer all(options, ranks);
    options.scaled_weights = ScaledWeights::hidden;
    Trainer hidden(options, ranks);
    const auto value = [](Trainer& trainer, std::size_t parameter) {
      return trainer.parameters()[parameter]->value[0];
    };
    const std::size_t count = all.parameters().size();
    EXPECT_EQ(count, 5 * 3 + 2);
    EXPECT_EQ(value(all, 0), value(hidden, 0));
    EXPECT_NEAR(value(all, count - 2), 10 * value(hidden, count - 2), 1e-6);
    EXPECT_EQ(all.last_hidden_inputs(7).size(), 700);
    for (int i = 0; i < 20; ++i) {
      const StepReport report = all.step();
      EXPECT_GE(report.accuracy, 0);
      EXPECT_LE(report.accuracy, 1);
    }
    hidden.copy_parameters(all);
    EXPECT_EQ(value(all, 0), value(hidden, 0));
    hidden.take_population_statistics(61);
    const double running = all.evaluate(Part::test, 23),
                 population = hidden.evaluate(Part::test, 23);
    EXPECT_GE(running, 0);
    EXPECT_GT(population, 0.1) << "better than guessing";
  });
}

class Reports final : public Observer {
 public:
  void on_step(const StepReport& report) override { reports_.push_back(report); }
  const std::vector<StepReport>& all() const { return reports_; }

 private:
  std::vector<StepReport> reports_;
};

TEST(Training, ReportsEachStep) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    Reports reports;
    const RunReport run = Trainer(directory.options(7), ranks).run(reports);
    ASSERT_EQ(reports.all().size(), 7);
    for (std::size_t i = 0; i < 7; ++i) {
      const StepReport& report = reports.all()[i];
      EXPECT_EQ(report.step, static_cast<std::int64_t>(i) + 1);
      EXPECT_EQ(report.epoch, i < 5 ? 1 : 2);
      EXPECT_EQ(report.images, i == 4 ? 9 : 13);
      EXPECT_EQ(report.test_accuracy.has_value(), i == 4 || i == 6);
      EXPECT_GT(report.times.batch_norm, 0);
      EXPECT_EQ(report.times.gradient_exchange > 0, ranks.size() > 1);
      EXPECT_GT(report.times.layers, 0);
    }
    EXPECT_EQ(run.steps, 7);
    EXPECT_EQ(run.images, 61 + 2 * 13);
    EXPECT_EQ(run.test_images, 23);
    EXPECT_EQ(run.test_accuracy, *reports.all().back().test_accuracy);
  });
}

TEST(Training, LearnsTheDataSet) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    Reports reports;
    TrainOptions options = directory.options(40);
    options.learning_rate = 0.05;
    EXPECT_GT(Trainer(options, ranks).run(reports).test_accuracy, 0.5);
    EXPECT_LT(reports.all().back().loss, 0.5);
  });
}

TEST(Training, WithoutDataOnOneRankIsRefusedOnAll) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(1);
    const int last = ranks.size() - 1;
    if (ranks.rank() == last) {
      options.data = directory / "elsewhere";
    }
    const std::string why = refusal(options, ranks);
    EXPECT_THAT(why, HasSubstr("elsewhere"));
    if (last > 0) {
      EXPECT_THAT(why, HasSubstr("rank " + std::to_string(last) + ": "));
    }
  });
}

TEST(Training, WithOtherDataOnOneRankIsRefusedOnAll) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    const test::TemporaryDirectory own;
    TrainOptions options = directory.options(1);
    const int last = ranks.size() - 1;
    if (ranks.rank() == last) {
      test::write_data_set(own.path(), 61, 23, 8, 2);
      options.data = own.path();
    }
    if (last == 0) {
      EXPECT_EQ(refusal(options, ranks), "");
    } else {
      EXPECT_THAT(refusal(options, ranks), AllOf(HasSubstr("rank " + std::to_string(last)),
                                                 HasSubstr("different data sets")));
    }
  });
}

/// EMNIST has 47.
TEST(Training, TakesAsManyClassesAsTheDataHave) {
  on_ranks([](const Communicator& ranks) {
    const test::TemporaryDirectory own;
    test::write_data_set(own.path(), 235, 94, 12, 1, 47);
    TrainOptions options;
    options.data = own.path();
    options.batch_size = 47;
    options.schedule = Schedule::constant;
    options.steps = 3;
    options.norm = Norm::none;
    Trainer trainer(options, ranks);
    EXPECT_EQ(trainer.classes(), 47);
    test::Losses losses;
    trainer.run(losses);
    EXPECT_LT(worst_difference(losses.values(), losses_of(options, Communicator::self())),
              tolerance);
    // The weights before the logits begin small: all classes are about equally likely.
    EXPECT_NEAR(losses.values().front(), std::log(47.0), 0.2);
  });
}

TEST(Training, ThatDivergesEndsOnAllRanks) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(20);
    options.norm = Norm::none;
    options.learning_rate = 1e300;
    EXPECT_THROW(losses_of(options, ranks), Error);
  });
}

TEST(Training, OnImagesTooSmallForTheNetworkIsRefused) {
  on_ranks([](const Communicator& ranks) {
    const test::TemporaryDirectory own;
    test::write_data_set(own.path(), 20, 5, 7);
    TrainOptions options;
    options.data = own.path();
    EXPECT_THAT(refusal(options, ranks), HasSubstr("too small for the cnn"));
    options.network = Network::mlp;
    EXPECT_EQ(refusal(options, ranks), "");
  });
}

}  // namespace
}  // namespace syncbn::trainer
