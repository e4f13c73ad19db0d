// SPDX-License-Identifier: Apache-2.0
#include "trainer/sampler.hpp"

#include <algorithm>
#include <numeric>

#include "trainer/random.hpp"

namespace syncbn::trainer {

Sampler::Sampler(std::int64_t samples, std::int64_t batch_size, std::uint64_t seed)
    : samples_(samples),
      batch_size_(batch_size),
      seed_(seed),
      order_(static_cast<std::size_t>(samples)) {}

std::span<const std::int64_t> Sampler::global_batch(std::int64_t step) {
  if (const std::int64_t epoch = epoch_of(step); epoch != shuffled_epoch_) {
    shuffle(epoch);
  }
  const std::int64_t begin = step % steps_per_epoch() * batch_size_;
  const std::int64_t end = std::min(begin + batch_size_, samples_);
  return std::span(order_).subspan(static_cast<std::size_t>(begin),
                                   static_cast<std::size_t>(end - begin));
}

void Sampler::shuffle(std::int64_t epoch) {
  const Random random{static_cast<std::uint64_t>(Draw::order), seed_,
                      static_cast<std::uint64_t>(epoch)};
  std::iota(order_.begin(), order_.end(), 0);
  trainer::shuffle(std::span(order_), random);
  shuffled_epoch_ = epoch;
}

Range shard(std::int64_t n, int rank, int ranks) {
  return {n * rank / ranks, n * (rank + 1) / ranks};
}

}  // namespace syncbn::trainer
