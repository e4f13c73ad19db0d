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

/// A Tensor is a dense tensor, in huge pages if it is large and the system has any. Its pages were
/// first touched by the threads that will work on it.
class Tensor {
 public:
  /// Makes a tensor of zeros.
  Tensor(DType dtype, const Shape& shape, Layout layout);

  /// Fills the tensor with normally distributed values, repeated with a period that leaves no two
  /// channels alike.
  void fill(std::uint64_t seed);
  /// Copies another tensor of the same size, with all threads.
  void copy_from(const Tensor& other);
  /// Copies another tensor of the same size, with all threads and stores past the cache.
  void stream_from(const Tensor& other);
  /// Reads the tensor with all threads, as plain_read does.
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

/// Tensors are what a layer works on.
struct Tensors {
  Tensor x, y, dy, dx;
};

/// Makes as many sets with the same values as it takes to exceed the last cache several times. Use
/// them in turn, so that each call finds its tensors in memory rather than in a cache. As there are
/// 256 sets at most, tiny tensors stay in the cache. `cache_sharers` is how many ranks share the
/// cache, each with sets of its own.
std::vector<Tensors> make_pool(const Shape& shape, DType dtype, Layout layout, int rank,
                               int cache_sharers = 1);

}  // namespace syncbn::app::bench
