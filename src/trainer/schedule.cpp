// SPDX-License-Identifier: Apache-2.0
#include "trainer/schedule.hpp"

#include <cmath>
#include <numbers>

namespace syncbn::trainer {

double learning_rate(const TrainOptions& options, std::int64_t step, std::int64_t steps) {
  const double progress = static_cast<double>(step) / static_cast<double>(steps);
  switch (options.schedule) {
    case Schedule::constant:
      break;
    case Schedule::cosine:
      return options.learning_rate * (1 + std::cos(std::numbers::pi * progress)) / 2;
    case Schedule::step:
      return options.learning_rate * (progress < 0.5 ? 1 : progress < 0.75 ? 0.1 : 0.01);
  }
  return options.learning_rate;
}

}  // namespace syncbn::trainer
