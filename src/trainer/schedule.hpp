// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "trainer/train_options.hpp"

namespace syncbn::trainer {

/// Returns the learning rate of `step`, counted from 0, in a run of `steps`.
double learning_rate(const TrainOptions& options, std::int64_t step, std::int64_t steps);

}  // namespace syncbn::trainer
