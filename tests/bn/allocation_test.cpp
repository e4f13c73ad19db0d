// SPDX-License-Identifier: Apache-2.0

// After the first steps nothing is allocated. Counts this program's calls of operator new.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "support/tensor.hpp"

namespace {

std::atomic<int> allocations;

void* counted(std::size_t size, std::size_t alignment) {
  ++allocations;
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

}  // namespace

void* operator new(std::size_t size) {
  return counted(size, alignof(std::max_align_t));
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace syncbn {
namespace {

using test::Tensor;

/// Two ranks that always send the same.
Communicator like_minded() {
  return Communicator::custom(0, 2, [](std::span<double> data) {
    std::ranges::transform(data, data.begin(), [](double value) { return 2 * value; });
  });
}

int allocations_of_a_step(const Communicator& group, DType dtype, Shape shape, Layout layout,
                          std::int64_t blocks) {
  const Tensor x = Tensor::normal(dtype, shape, layout, 1);
  Tensor y(dtype, shape, layout), dx(dtype, shape, layout);
  const std::vector<float> weight(static_cast<std::size_t>(shape.per_channel()), 1.0F);
  BatchNorm layer(shape.c, group,
                  {.name = "a layer with a name that is not short",
                   .activation = Activation::relu,
                   .channel_blocks = blocks});
  Saved saved;
  int count = 0;
  for (int step = 0; step < 4; ++step) {
    const int before = allocations;
    layer.forward(x.view(), y.view(), saved);
    layer.backward(saved, x.view(), y.view(), dx.view());
    layer.forward(x.view(), y.view(), saved, weight);
    layer.backward(saved, x.view(), y.view(), dx.view(), weight);
    layer.infer(x.view(), y.view());
    count = allocations - before;
  }
  return count;
}

TEST(Allocations, AreDoneAfterTheFirstSteps) {
  for (const Communicator& group : {Communicator::self(), like_minded()}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
        for (const Shape& shape : {Shape{300, 40, 1}, Shape{6, 300, 49}, Shape{9, 64, 1100}}) {
          for (const std::int64_t blocks : {1, 3}) {
            EXPECT_EQ(allocations_of_a_step(group, dtype, shape, layout, blocks), 0);
          }
        }
      }
    }
  }
}

TEST(Allocations, AreCounted) {
  const int before = allocations;
  const std::vector<double> some(100);
  EXPECT_EQ(allocations - before, 1);
}

}  // namespace
}  // namespace syncbn
