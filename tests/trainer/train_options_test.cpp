// SPDX-License-Identifier: Apache-2.0
#include "trainer/train_options.hpp"

#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "support/failure.hpp"

namespace syncbn::trainer {
namespace {

using testing::HasSubstr;

std::string refusal(const std::function<void(TrainOptions&)>& change) {
  TrainOptions options;
  change(options);
  return test::failure_of<InvalidArgument>([&] { validate(options); });
}

TEST(TrainOptions, AreFineAsTheyAre) {
  EXPECT_EQ(refusal([](TrainOptions&) {}), "");
}

TEST(TrainOptions, OutOfRangeAreRefused) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(refusal([](auto& o) { o.batch_size = 0; }), HasSubstr("--batch-size 0"));
  EXPECT_THAT(refusal([](auto& o) { o.epochs = 0; }), HasSubstr("--epochs 0"));
  EXPECT_THAT(refusal([](auto& o) { o.steps = -1; }), HasSubstr("--steps -1"));
  EXPECT_THAT(refusal([](auto& o) { o.learning_rate = 0; }), HasSubstr("--learning-rate 0"));
  EXPECT_THAT(refusal([=](auto& o) { o.learning_rate = nan; }), HasSubstr("--learning-rate nan"));
  EXPECT_THAT(refusal([](auto& o) { o.momentum = 1; }), HasSubstr("--momentum 1"));
  EXPECT_THAT(refusal([](auto& o) { o.dropout = 1; }), HasSubstr("--dropout 1"));
  EXPECT_THAT(refusal([](auto& o) { o.dropout = -0.1; }), HasSubstr("--dropout -0.1"));
  EXPECT_THAT(refusal([](auto& o) { o.init_scale = 0; }), HasSubstr("--init-scale 0"));
  EXPECT_THAT(refusal([](auto& o) { o.training_images = 0; }), HasSubstr("--training-images 0"));
  EXPECT_THAT(refusal([](auto& o) { o.norm_samples = 0; }), HasSubstr("--norm-samples 0"));
}

TEST(TrainOptions, ThatContradictEachOtherAreRefused) {
  EXPECT_THAT(refusal([](auto& o) {
                o.epochs = 1;
                o.steps = 1;
              }),
              HasSubstr("--epochs and --steps"));
  EXPECT_THAT(refusal([](auto& o) { o.save_every = 5; }), HasSubstr("--save-every needs --save"));
  EXPECT_THAT(refusal([](auto& o) { o.hidden_layers = 5; }), HasSubstr("--hidden-layers 5"));
  EXPECT_THAT(refusal([](auto& o) {
                o.norm = Norm::local;
                o.norm_samples = 5;
              }),
              HasSubstr("--norm-samples needs --norm sync"));
}

TEST(TrainOptions, GiveTheLengthOfTheRun) {
  TrainOptions options;
  EXPECT_EQ(total_steps(options, 10), 40);
  options.epochs = 2;
  EXPECT_EQ(total_steps(options, 10), 20);
  options.epochs.reset();
  options.steps = 7;
  EXPECT_EQ(total_steps(options, 10), 7);
}

TEST(TrainOptions, TakeTheActivationThatSuitsTheNetwork) {
  TrainOptions options;
  EXPECT_EQ(options.chosen_activation(), dnn::Function::relu);
  options.network = Network::mlp;
  EXPECT_EQ(options.chosen_activation(), dnn::Function::sigmoid);
  options.activation = dnn::Function::tanh;
  EXPECT_EQ(options.chosen_activation(), dnn::Function::tanh);
}

}  // namespace
}  // namespace syncbn::trainer
