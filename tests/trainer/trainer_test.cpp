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
