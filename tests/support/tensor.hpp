// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "syncbn/tensor_view.hpp"

namespace syncbn::test {

/// A dense tensor with memory of its own.
class Tensor {
 public:
  /// Elements are quiet NaNs, so that what was not written shows.
  Tensor(DType dtype, Shape shape, Layout layout);

  /// Normal values mean[c] + spread[c] * N(0, 1), rounded to dtype. Element (n, c, s) depends on
  /// `seed` and its indices alone: not on the layout, nor on which rank draws it. `first` is the
  /// index that sample 0 has in the whole batch.
  static Tensor normal(DType dtype, Shape shape, Layout layout, std::uint64_t seed, double mean = 0,
                       double spread = 1, std::int64_t first = 0);

  /// Samples [begin, end), copied.
  Tensor samples(std::int64_t begin, std::int64_t end) const;

  double at(std::int64_t n, std::int64_t c, std::int64_t s) const;
  void set(std::int64_t n, std::int64_t c, std::int64_t s, double value);

  TensorView view() { return {bytes_.data(), dtype_, shape_, layout_}; }
  ConstTensorView view() const { return {bytes_.data(), dtype_, shape_, layout_}; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  Layout layout() const { return layout_; }

  /// Bit for bit.
  friend bool operator==(const Tensor&, const Tensor&) = default;

 private:
  std::size_t offset(std::int64_t n, std::int64_t c, std::int64_t s) const;

  std::vector<std::byte> bytes_;
  DType dtype_;
  Shape shape_;
  Layout layout_;
};

/// Distance between 1 and the next larger number of the type.
double epsilon(DType dtype);

}  // namespace syncbn::test
