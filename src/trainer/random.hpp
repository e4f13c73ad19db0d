// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>

namespace syncbn::trainer {

/// Makes random numbers by counter: draw `i` is a function of the key and i alone, so whichever
/// rank asks, in whatever order, gets the same. Integer and exact arithmetic only: the same on
/// every machine.
class Random {
 public:
  explicit Random(std::initializer_list<std::uint64_t> key) {
    for (const std::uint64_t word : key) {
      key_ = mix(key_ ^ word);
    }
  }

  std::uint64_t bits(std::uint64_t i) const { return mix(key_ + i * golden); }

  /// Returns a number in [0, 1), a multiple of 2^-53.
  double uniform(std::uint64_t i) const { return static_cast<double>(bits(i) >> 11) * 0x1p-53; }

  /// Returns a number of mean 0 and variance 1: the sum of twelve uniforms (Irwin-Hall), less 6.
  /// Needs no logarithm, whose last bit differs between maths libraries.
  double normal(std::uint64_t i) const {
    double sum = -6;
    for (std::uint64_t k = 0; k < 12; ++k) {
      sum += uniform(12 * i + k);
    }
    return sum;
  }

  /// Returns a number in [0, n). The bias is below n / 2^53.
  std::uint64_t below(std::uint64_t n, std::uint64_t i) const {
    return static_cast<std::uint64_t>(uniform(i) * static_cast<double>(n));
  }

 private:
  static constexpr std::uint64_t golden = 0x9e3779b97f4a7c15;

  /// Returns splitmix64's output for state z (Steele, Lea & Flood 2014).
  static constexpr std::uint64_t mix(std::uint64_t z) {
    z += golden;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  std::uint64_t key_ = 0;
};

/// Puts the values into an order that `random` determines, as Fisher & Yates do.
template <class T>
void shuffle(std::span<T> values, const Random& random) {
  for (std::size_t left = values.size(); left > 1; --left) {
    std::swap(values[left - 1], values[random.below(left, left)]);
  }
}

/// Says what a stream of random numbers is for. It is the first word of the stream's key; the seed
/// follows.
enum class Draw : std::uint64_t { order = 1, weights, dropout };

}  // namespace syncbn::trainer
