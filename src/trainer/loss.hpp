// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace syncbn::trainer {

/// Returns the cross-entropy of softmax(logits), *summed* over the samples; logits [n, classes],
/// one label a sample. Writes its gradient [n, classes]. Computed in double.
double softmax_cross_entropy(std::span<const float> logits, std::span<const std::uint8_t> labels,
                             std::span<float> gradient);

/// Returns how many samples have their largest logit at their label.
std::int64_t count_correct(std::span<const float> logits, std::span<const std::uint8_t> labels);

}  // namespace syncbn::trainer
