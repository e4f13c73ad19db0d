// SPDX-License-Identifier: Apache-2.0
//
// Single runs of a study, on a small data set.
#include <memory>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "app/study/report.hpp"
#include "app/study/run.hpp"
#include "support/failure.hpp"
#include "support/scratch_directory.hpp"
#include "trainer/idx_files.hpp"
#include "trainer/trainer.hpp"

namespace syncbn::app::study {
namespace {

using testing::HasSubstr;
using trainer::Norm;

class StudyTraining : public testing::Test {
 protected:
  StudyTraining() {
    test::write_data_set(directory_.path(), 100, 50, 8);
    data_ = trainer::load_everywhere(directory_.path(), Communicator::self());
  }

  trainer::TrainOptions options(std::int64_t steps) const {
    trainer::TrainOptions options;
    options.data = directory_.path();
    options.network = trainer::Network::mlp;
    options.activation = trainer::dnn::Function::tanh;
    options.batch_size = 8;
    options.learning_rate = 0.1;
    options.momentum = 0;
    options.schedule = trainer::Schedule::constant;
    options.steps = steps;
    return options;
  }

  Json result_of(const study::Run& run) const {
    return train(run, data_, [](double) {});
  }

  test::ScratchDirectory directory_;
  std::shared_ptr<const trainer::Split> data_;
};

TEST_F(StudyTraining, IsEvaluatedAtItsEndUnlessMoreIsAskedFor) {
  const Json result = result_of(make_run("test", {{"norm", "sync"}}, options(20)));
  EXPECT_EQ(result["series"]["step"], (Json{20}));
  EXPECT_EQ(result["series"]["test_accuracy"].back(), result["final"]["test_accuracy"]);
}

TEST_F(StudyTraining, RecordsTheCourseOfATraining) {
  study::Run run = make_run("test", {{"norm", "sync"}}, options(20));
  run.recording.steps = checkpoints(20, 4);
  run.recording.hidden_inputs = true;
  const Json result = result_of(run);
  EXPECT_TRUE(result["diverged_at"].is_null());
  EXPECT_EQ(result["series"]["step"], (Json{5, 10, 15, 20}));
  for (const auto& [quantity, values] : result["series"].items()) {
    EXPECT_EQ(values.size(), 4) << quantity;
  }
  for (const char* quantity : {"loss", "batch_accuracy", "hidden_p50", "hidden_width"}) {
    EXPECT_TRUE(result["series"].contains(quantity)) << quantity;
  }
  EXPECT_EQ(result["final"]["test_accuracy"], result["series"]["test_accuracy"].back());
  EXPECT_LE(result["series"]["hidden_p15"][3], result["series"]["hidden_p50"][3]);
  EXPECT_LE(result["series"]["hidden_p50"][3], result["series"]["hidden_p85"][3]);
}

TEST_F(StudyTraining, GivesTheSameBitsAgain) {
  const study::Run run = make_run("test", {{"norm", "sync"}}, options(20), 3);
  EXPECT_EQ(result_of(run).dump(), result_of(run).dump());
}

TEST_F(StudyTraining, TakesADivergenceForAResult) {
  trainer::TrainOptions wild = options(20);
  wild.learning_rate = 1e43;
  wild.activation = trainer::dnn::Function::relu;
  wild.norm = Norm::none;
  for (const int ranks : {1, 2}) {
    study::Run run = make_run("test", {{"norm", "none"}}, wild, ranks);
    run.recording.one_process = ranks > 1;
    const Json result = result_of(run);
    EXPECT_GE(result["diverged_at"], 2);
    EXPECT_EQ(result["final"]["test_accuracy"], 0.1) << "as good as guessing";
    EXPECT_FALSE(result["final"].contains("loss"));
  }
}

TEST_F(StudyTraining, SeesThatTheLastStepDiverged) {
  trainer::TrainOptions wild = options(1);
  wild.learning_rate = 1e43;
  const Json result = result_of(make_run("test", {{"norm", "sync"}}, wild));
  EXPECT_EQ(result["diverged_at"], 2);
  EXPECT_EQ(result["series"].size(), 0);
}

/// The rounding of float grows over the steps; what local statistics do is larger by far.
TEST_F(StudyTraining, IsThatOfOneProcessIfItIsSynchronized) {
  const auto distance = [&](Norm norm) {
    trainer::TrainOptions wanted = options(20);
    wanted.norm = norm;
    study::Run run = make_run("test", {{"norm", "any"}}, wanted, 4);
    run.recording.one_process = true;
    return result_of(run)["final"]["distance"].get<double>();
  };
  EXPECT_LT(distance(Norm::sync), 1e-4);
  EXPECT_LT(distance(Norm::affine), 1e-4);
  EXPECT_GT(distance(Norm::local), 1e-2);
}

/// One sample a rank is its own mean, so that the weights before local batch norm do not move.
/// Those of one process do, beyond float: their gradient is the larger the smaller the weights are.
TEST_F(StudyTraining, HasNoDistanceFromAProcessThatDiverged) {
  trainer::TrainOptions wild = options(2);
  wild.norm = Norm::local;
  wild.learning_rate = 2e38;
  wild.init_scale = 0.01;
  wild.scaled_weights = trainer::ScaledWeights::hidden;
  study::Run run = make_run("test", {{"norm", "local"}}, wild, 8);
  run.recording.steps = {1, 2};
  run.recording.one_process = true;
  const Json result = Json::parse(result_of(run).dump());  // as a file has it
  EXPECT_TRUE(result["diverged_at"].is_null());
  EXPECT_EQ(result["series"]["distance"], (Json{nullptr, nullptr}));
  EXPECT_TRUE(result["final"]["distance"].is_null());
}

TEST_F(StudyTraining, TakesPopulationStatisticsOfWholeBatches) {
  trainer::TrainOptions wanted = options(1);
  for (const auto& [batch_size, divides] :
       {std::pair(8, true), {32, true}, {60, true}, {7, false}}) {
    wanted.batch_size = batch_size;
    study::Run run = make_run("test", {{"norm", "sync"}}, wanted);
    run.recording.population = true;
    if (divides) {
      EXPECT_NO_THROW(result_of(run)) << batch_size;
    } else {
      EXPECT_THAT(test::failure_of<InvalidArgument>([&] { result_of(run); }),
                  HasSubstr("no whole batches of 7"));
    }
  }
}

TEST_F(StudyTraining, EvaluatesWithPopulationStatisticsBesideIt) {
  trainer::TrainOptions wanted = options(20);
  wanted.norm_samples = 4;
  study::Run run = make_run("test", {{"norm", "sync"}}, wanted, 4);
  run.recording.steps = checkpoints(20, 4);
  const Json without = result_of(run);
  run.recording.population = true;
  Json with = result_of(run);
  EXPECT_EQ(with["series"]["population_accuracy"].size(), 4);
  EXPECT_NE(with["series"]["population_accuracy"], with["series"]["test_accuracy"]);
  with["series"].erase("population_accuracy");
  with["final"].erase("population_accuracy");
  EXPECT_GT(with["final"]["population_train_accuracy"], 0.5);
  with["final"].erase("population_train_accuracy");
  EXPECT_EQ(with.dump(), without.dump()) << "the training itself must not change";
}

TEST_F(StudyTraining, TellsTheCommandThatTrainsTheSame) {
  trainer::TrainOptions wanted = options(20);
  wanted.norm_samples = 4;
  wanted.shards = trainer::Shards::by_label;
  const std::string command = command_of(make_run("test", {{"norm", "sync"}}, wanted, 2));
  EXPECT_EQ(command,
            "mpirun -n 2 syncbn train --model mlp --norm-samples 4 --activation tanh --data " +
                directory_.path().string() +
                " --shards by-label --batch-size 8 --learning-rate 0.1 --momentum 0 "
                "--schedule constant --steps 20");
}

TEST_F(StudyTraining, QuotesTheDataSetInTheCommand) {
  trainer::TrainOptions wanted = options(20);
  wanted.data = "a user's/data";
  EXPECT_THAT(command_of(make_run("test", {{"norm", "sync"}}, wanted)),
              HasSubstr(R"( --data 'a user'\''s/data' --batch-size)"));
}

}  // namespace
}  // namespace syncbn::app::study
