// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "syncbn/tensor_view.hpp"

#include "trainer/tensor_memory.hpp"

namespace syncbn::app::bench {

/// A dense tensor in huge pages, if large and if there are any, which were first touched by the
/// threads that will work on it.
class Tensor {
 public:
  /// Zeros.
  Tensor(DType dtype, const Shape& shape, Layout layout);

  /// Normal values, repeated after so many that no two channels are alike.
  void fill(std::uint64_t seed);
  /// By all threads. The other is of the same size.
  void copy_from(const Tensor& other);
  /// The same past the cache.
  void stream_from(const Tensor& other);
  /// By all threads, as plain_read does.
  void read() const;

  TensorView view() { return {data_.get(), dtype_, shape_, layout_}; }

 private:
  struct Free {
    std::size_t bytes;
    void operator()(std::byte* data) const { trainer::free_tensor(data, bytes); }
  };

  /// Calls body(begin, size) of each thread's part, in bytes.
  void on_parts(const std::function<void(std::size_t begin, std::size_t size)>& body) const;

  DType dtype_;
  Shape shape_;
  Layout layout_;
  std::size_t bytes_;
  std::unique_ptr<std::byte, Free> data_;
};

/// What a layer works on.
struct Tensors {
  Tensor x, y, dy, dx;
};

/// As many sets with the same values as it takes to exceed the last cache several times. Used in
/// turn, each call finds its tensors in memory rather than in a cache. Tiny ones stay in the cache:
/// there are 256 sets at most.
std::vector<Tensors> make_pool(const Shape& shape, DType dtype, Layout layout, int rank);

}  // namespace syncbn::app::bench
