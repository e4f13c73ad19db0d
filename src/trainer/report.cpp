// SPDX-License-Identifier: Apache-2.0
#include "trainer/report.hpp"

namespace syncbn::trainer {

Times& Times::operator+=(const Times& other) {
  total += other.total;
  layers += other.layers;
  batch_norm += other.batch_norm;
  batch_norm_exchange += other.batch_norm_exchange;
  gradient_exchange += other.gradient_exchange;
  update += other.update;
  return *this;
}

double Times::exchange_share() const {
  return total > 0 ? (batch_norm_exchange + gradient_exchange) / total : 0;
}

double Times::batch_norm_share() const {
  return total > 0 ? (batch_norm + batch_norm_exchange) / total : 0;
}

}  // namespace syncbn::trainer
