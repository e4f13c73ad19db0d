// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "app/study/plan.hpp"
#include "trainer/train_options.hpp"

namespace syncbn::app::study {

/// The network without batch norm, with a learned scale and shift in its place as the control, and
/// with batch norm.
inline constexpr std::array norms{trainer::Norm::none, trainer::Norm::affine, trainer::Norm::sync};

/// Returns the training of Ioffe & Szegedy (2015), section 4.1: three hidden layers of 100 sigmoid
/// units on binary images, 60 of them a step, by plain gradient descent. The paper does not give
/// the learning rate. Ours is the best one, to a factor of 3, for the network without batch norm
/// (experiment learning-rates), so that this network is not at a loss because of it.
inline trainer::TrainOptions ioffe_szegedy(const Plan& plan, trainer::Norm norm, std::uint64_t seed,
                                           std::int64_t steps) {
  trainer::TrainOptions options;
  options.data = plan.data;
  options.network = trainer::Network::mlp;
  options.inputs = trainer::Inputs::binary;
  options.norm = norm;
  options.batch_size = 60;
  options.learning_rate = 1;
  options.momentum = 0;
  options.schedule = trainer::Schedule::constant;
  options.steps = steps;
  options.seed = seed;
  return options;
}

/// Returns the same with tanh units and a lower rate, at which the network learns without batch
/// norm, too. That is for experiments about ranks, where it is a control.
inline trainer::TrainOptions of_tanh_units(const Plan& plan, trainer::Norm norm, std::uint64_t seed,
                                           std::int64_t steps) {
  trainer::TrainOptions options = ioffe_szegedy(plan, norm, seed, steps);
  options.activation = trainer::dnn::Function::tanh;
  options.learning_rate = 0.1;
  return options;
}

}  // namespace syncbn::app::study
