// SPDX-License-Identifier: Apache-2.0
#include "support/tensor.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "core/visit_dtype.hpp"

namespace syncbn::test {
namespace {

// The finalizer of splitmix64: a well-mixed 64-bit function of a counter.
std::uint64_t mix(std::uint64_t z) {
  z += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

double uniform(std::uint64_t bits) {
  return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53;
}

}  // namespace

Tensor::Tensor(DType dtype, Shape shape, Layout layout)
    : bytes_(static_cast<std::size_t>(shape.size()) * size_of(dtype)),
      dtype_(dtype),
      shape_(shape),
      layout_(layout) {
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t c = 0; c < shape.c; ++c) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        set(n, c, s, std::numeric_limits<double>::quiet_NaN());
      }
    }
  }
}

Tensor Tensor::normal(DType dtype, Shape shape, Layout layout, std::uint64_t seed, double mean,
                      double spread, std::int64_t first) {
  Tensor tensor(dtype, shape, layout);
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t c = 0; c < shape.c; ++c) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        const auto index = static_cast<std::uint64_t>(((first + n) * shape.c + c) * shape.s + s);
        const std::uint64_t key = mix(mix(seed) ^ index);
        const double radius = std::sqrt(-2 * std::log(uniform(mix(key))));
        const double angle = 2 * std::numbers::pi * uniform(mix(key + 1));
        tensor.set(n, c, s, mean + spread * radius * std::cos(angle));
      }
    }
  }
  return tensor;
}

Tensor Tensor::samples(std::int64_t begin, std::int64_t end) const {
  Tensor part(dtype_, {end - begin, shape_.c, shape_.s}, layout_);
  const std::size_t sample = static_cast<std::size_t>(shape_.c * shape_.s) * size_of(dtype_);
  if (part.bytes_.size() != 0) {
    std::memcpy(part.bytes_.data(), bytes_.data() + static_cast<std::size_t>(begin) * sample,
                part.bytes_.size());
  }
  return part;
}

std::size_t Tensor::offset(std::int64_t n, std::int64_t c, std::int64_t s) const {
  const std::int64_t index = layout_ == Layout::channels_first ? (n * shape_.c + c) * shape_.s + s
                                                               : (n * shape_.s + s) * shape_.c + c;
  return static_cast<std::size_t>(index) * size_of(dtype_);
}

double Tensor::at(std::int64_t n, std::int64_t c, std::int64_t s) const {
  return visit_dtype(dtype_, [&]<class T>() {
    T value;
    std::memcpy(&value, bytes_.data() + offset(n, c, s), sizeof value);
    return to_double(value);
  });
}

void Tensor::set(std::int64_t n, std::int64_t c, std::int64_t s, double value) {
  visit_dtype(dtype_, [&]<class T>() {
    const T element = from_double<T>(value);
    std::memcpy(bytes_.data() + offset(n, c, s), &element, sizeof element);
  });
}

double epsilon(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0x1p-52;
    case DType::f32:
      return 0x1p-23;
    case DType::f16:
      return 0x1p-10;
    case DType::bf16:
      return 0x1p-7;
  }
  return 0;
}

}  // namespace syncbn::test
