// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/communicator.hpp"

#include "trainer/dnn.hpp"
#include "trainer/model.hpp"
#include "trainer/train_options.hpp"

namespace syncbn::trainer {

/// Builds the network that `options` ask for, with an output for each class, its weights drawn from
/// the seed. Batch norm layers take their statistics over `group`. Throws InvalidArgument if the
/// images are too small for it.
Model build_network(const TrainOptions& options, dnn::Image input, std::int64_t classes,
                    const Communicator& group);

}  // namespace syncbn::trainer
