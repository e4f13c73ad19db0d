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

/// Values are a whole tensor in double, channel by channel: element (n, c, s) is [(c N + n) S + s].
using Values = std::vector<double>;

/// A Batch is the whole batch that one training step is given. Each value can be held by the case's
/// type, and depends only on the seed, the case and its indices, so all ranks have the same batch.
struct Batch {
  Values x;
  Values residual;  ///< empty if the case has none
  Values dy;
  /// Weights [N, S], empty if the case has none. Samples have different lengths: up to a sample's
  /// end its weights are 1/2 to 3; after it they are 0, and x, dy and the residual are NaN.
  std::vector<float> weight;
};

Batch make_batch(const Case& one, std::uint64_t seed, int step);

/// Parameters are gamma, around 1, and beta, around 0, [C] each.
struct Parameters {
  std::vector<double> gamma;
  std::vector<double> beta;
};

Parameters make_parameters(std::int64_t channels, std::uint64_t seed);

/// Returns the weights of a shard's samples, empty if the batch has none.
std::span<const float> weight_of(const Case& one, const Batch& batch, const Shard& shard);

/// A Tensor holds a rank's samples of a tensor, in the memory order and type that the library is
/// given.
class Tensor {
 public:
  /// Fills the tensor with NaN, so that elements that are not written show.
  Tensor(const Case& one, const Shard& shard);
  /// Fills the tensor with the shard's part of the whole batch's.
  Tensor(const Case& one, const Shard& shard, const Values& whole);

  /// Returns this shard's samples, in the order of Values.
  Values values() const;

  /// Returns the memory, in the tensor's layout.
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
