// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "channels/exact_channels.hpp"
#include "channels/exponents.hpp"

namespace syncbn::channels {

/// Memory of the host for exact sums. It can be moved, and keeps its addresses then.
class ExactMemory {
 public:
  explicit ExactMemory(std::int64_t channels)
      : ints_(static_cast<std::size_t>(exact_ints * channels)),
        doubles_(static_cast<std::size_t>(exact_doubles * channels)),
        words_(static_cast<std::size_t>(exact_words(channels))),
        of_(lay_out(channels, ints_.data(), doubles_.data(), words_.data())) {
    forget();
  }
  ExactMemory(ExactMemory&&) = default;
  ExactMemory& operator=(ExactMemory&&) = default;

  const ExactChannels& of() const { return of_; }

  /// Forgets the variances and gradients of earlier steps, which windows would follow from.
  void forget() {
    std::fill_n(of_.var, of_.channels, -1.0);
    std::fill_n(of_.gradient_exponent, of_.channels, no_exponent);
  }

 private:
  std::vector<int> ints_;
  std::vector<double> doubles_;
  std::vector<std::uint64_t> words_;
  ExactChannels of_;
};

}  // namespace syncbn::channels
