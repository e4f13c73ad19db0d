// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "syncbn/tensor_view.hpp"

#include "app/check/cases.hpp"
#include "trainer/tensor_memory.hpp"

namespace syncbn::app::check {

/// Values of a whole tensor in double, channel by channel: element (n, c, s) is [(c N + n) S + s].
using Values = std::vector<double>;

/// What one training step is given, of the whole batch. Every value is one that the case's type
/// holds. It depends on the seed, the case's data and the indices alone, so all ranks have the
/// same.
struct Batch {
  Values x;
  Values residual;  ///< empty without
  Values dy;
  /// [N, S], empty without. Samples of different lengths: after a sample's end it is 0, and x, dy
  /// and the residual are NaN there; before, 1/2 to 3.
  std::vector<float> weight;
};

Batch make_batch(const Case& one, std::uint64_t seed, int step);

/// gamma around 1 and beta around 0, [C].
struct Parameters {
  std::vector<double> gamma;
  std::vector<double> beta;
};

Parameters make_parameters(std::int64_t channels, std::uint64_t seed);

/// Those of a shard's samples.
std::span<const float> weight_of(const Case& one, const Batch& batch, const Shard& shard);

/// A rank's samples of a tensor, in the memory order and type that the library is given.
class Tensor {
 public:
  /// Filled with NaN, so that what is not written shows.
  Tensor(const Case& one, const Shard& shard);
  /// Filled from the whole batch's.
  Tensor(const Case& one, const Shard& shard, const Values& whole);

  /// In the order of Values, of this shard's samples.
  Values values() const;

  /// In memory order.
  std::span<std::byte> bytes() { return bytes_; }

  TensorView view() { return {bytes_.data(), dtype_, shape_, layout_}; }
  const Shape& shape() const { return shape_; }

 private:
  std::size_t index(std::int64_t n, std::int64_t c, std::int64_t s) const;
  void fill(const Values& values);

  DType dtype_;
  Layout layout_;
  Shape shape_;
  trainer::TensorBuffer<std::byte> bytes_;
};

}  // namespace syncbn::app::check
