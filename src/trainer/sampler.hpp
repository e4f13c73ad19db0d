// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace syncbn::trainer {

/// Says which samples make up the global batch of a step. Each epoch goes once through a
/// permutation of its own, in batches of which the last may be smaller. Depends on the seed, not on
/// the ranks.
class Sampler {
 public:
  Sampler(std::int64_t samples, std::int64_t batch_size, std::uint64_t seed);

  std::int64_t steps_per_epoch() const { return (samples_ + batch_size_ - 1) / batch_size_; }
  /// Epochs and steps count from 0.
  std::int64_t epoch_of(std::int64_t step) const { return step / steps_per_epoch(); }
  bool ends_epoch(std::int64_t step) const { return (step + 1) % steps_per_epoch() == 0; }

  /// Returns the samples' numbers in the data set, valid until the next call.
  std::span<const std::int64_t> global_batch(std::int64_t step);

 private:
  void shuffle(std::int64_t epoch);

  std::int64_t samples_, batch_size_;
  std::uint64_t seed_;
  std::int64_t shuffled_epoch_ = -1;
  std::vector<std::int64_t> order_;
};

/// Bounds the consecutive part of `n` things that one of `ranks` ranks takes. Sizes differ by at
/// most one.
struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};
Range shard(std::int64_t n, int rank, int ranks);

}  // namespace syncbn::trainer
