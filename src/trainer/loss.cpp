// SPDX-License-Identifier: Apache-2.0
#include "trainer/loss.hpp"

#include <algorithm>
#include <cmath>

namespace syncbn::trainer {
namespace {

std::span<const float> row(std::span<const float> logits, std::size_t sample, std::size_t samples) {
  const std::size_t width = logits.size() / samples;
  return logits.subspan(sample * width, width);
}

}  // namespace

double softmax_cross_entropy(std::span<const float> logits, std::span<const std::uint8_t> labels,
                             std::span<float> gradient) {
  double loss = 0;
  float* out = gradient.data();
  for (std::size_t sample = 0; sample < labels.size(); ++sample) {
    const std::span<const float> z = row(logits, sample, labels.size());
    const double largest = *std::max_element(z.begin(), z.end());
    double sum = 0;
    for (const float logit : z) {
      sum += std::exp(logit - largest);
    }
    const double log_sum = largest + std::log(sum);
    loss += log_sum - z[labels[sample]];
    for (std::size_t i = 0; i < z.size(); ++i) {
      *out++ = static_cast<float>(std::exp(z[i] - log_sum) - (i == labels[sample] ? 1 : 0));
    }
  }
  return loss;
}

std::int64_t count_correct(std::span<const float> logits, std::span<const std::uint8_t> labels) {
  std::int64_t correct = 0;
  for (std::size_t sample = 0; sample < labels.size(); ++sample) {
    const std::span<const float> z = row(logits, sample, labels.size());
    correct += std::max_element(z.begin(), z.end()) - z.begin() == labels[sample];
  }
  return correct;
}

}  // namespace syncbn::trainer
