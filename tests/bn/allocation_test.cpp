// SPDX-License-Identifier: Apache-2.0

// After the first steps nothing is allocated, and training in place keeps half. Counts this
// program's calls of operator new, and the memory in use.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <malloc.h>
#include <new>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "support/tensor.hpp"

namespace {

std::atomic<int> allocations;
std::atomic<std::size_t> bytes_in_use;

void* counted(std::size_t size, std::size_t alignment) {
  ++allocations;
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  bytes_in_use += malloc_usable_size(memory);
  return memory;
}

void release(void* memory) {
  bytes_in_use -= malloc_usable_size(memory);
  std::free(memory);
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
  void* memory = std::malloc(size);
  bytes_in_use += malloc_usable_size(memory);
  return memory;
}
void operator delete(void* memory) noexcept {
  release(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  release(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  release(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  release(memory);
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
                          std::int64_t blocks, Reproducibility reproducibility) {
  const Tensor x = Tensor::normal(dtype, shape, layout, 1);
  Tensor y(dtype, shape, layout), dx(dtype, shape, layout);
  const std::vector<float> weight(static_cast<std::size_t>(shape.per_channel()), 1.0F);
  BatchNorm layer(shape.c, group,
                  {.name = "a layer with a name that is not short",
                   .activation = Activation::relu,
                   .channel_blocks = blocks,
                   .reproducibility = reproducibility});
  ForwardRecord record;
  int count = 0;
  for (int step = 0; step < 4; ++step) {
    const int before = allocations;
    layer.forward(x.view(), y.view(), record);
    layer.backward(record, x.view(), y.view(), dx.view());
    layer.forward(x.view(), y.view(), record, {.position_weights = weight});
    layer.backward(record, x.view(), y.view(), dx.view(), {.position_weights = weight});
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
            for (const auto mode : {Reproducibility::rank_consistent, Reproducibility::exact}) {
              EXPECT_EQ(allocations_of_a_step(group, dtype, shape, layout, blocks, mode), 0);
            }
          }
        }
      }
    }
  }
}

TEST(Allocations, AreDoneAfterTheFirstStepsOfLayersTogether) {
  const Tensor x = Tensor::normal(DType::f32, {4, 8, 9}, Layout::channels_first, 1);
  Tensor y = x, other_y = x, dx = x, other_dx = x;
  const Communicator group = like_minded();
  BatchNorm layer(8, group, {.name = "a layer with a name that is not short"});
  BatchNorm other(8, group, {.reproducibility = Reproducibility::exact});
  ForwardRecord record, other_record;
  const std::array forwards{ForwardCall{layer, x.view(), y.view(), record},
                            ForwardCall{other, x.view(), other_y.view(), other_record}};
  const std::array backwards{
      BackwardCall{layer, record, x.view(), x.view(), dx.view()},
      BackwardCall{other, other_record, x.view(), x.view(), other_dx.view()}};
  for (int step = 0; step < 4; ++step) {
    const int before = allocations;
    forward_together(forwards);
    backward_together(backwards);
    EXPECT_TRUE(step < 2 || allocations == before) << step;
  }
}

/// What a stack of layers, each after a convolution, has in use when its forward is done: the
/// outputs for the next convolutions' backwards, and what batch norm's own want. [B]
std::size_t bytes_kept(bool in_place) {
  constexpr Shape shape{4, 32, 784};
  const Tensor input = Tensor::normal(DType::f32, shape, Layout::channels_first, 1);
  const std::size_t before = bytes_in_use;
  std::vector<BatchNorm> layers;
  std::vector<ForwardRecord> record(6);
  std::vector<Tensor> kept;
  for (ForwardRecord& of_layer : record) {
    layers.emplace_back(shape.c, Communicator::self(),
                        BatchNormOptions{.activation = Activation::leaky_relu(0.01)});
    Tensor x = kept.empty() ? input : kept.back();  // convolved
    if (in_place) {
      layers.back().forward_in_place(x.view(), of_layer);
    } else {
      Tensor y(x.dtype(), x.shape(), x.layout());
      layers.back().forward(x.view(), y.view(), of_layer);
      kept.push_back(std::move(x));
      x = std::move(y);
    }
    kept.push_back(std::move(x));
  }
  return bytes_in_use - before;
}

TEST(Memory, IsHalfAsMuchInPlace) {
  const auto apart = static_cast<double>(bytes_kept(false));
  const auto in_place = static_cast<double>(bytes_kept(true));
  EXPECT_GT(apart, 12 * 4 * 32 * 784 * sizeof(float));
  EXPECT_LT(in_place / apart, 0.51);
  RecordProperty("in_place_over_apart", std::to_string(in_place / apart));
}

TEST(Allocations, AreCounted) {
  const int before = allocations;
  const std::size_t bytes_before = bytes_in_use;
  {
    const std::vector<double> some(100);
    EXPECT_EQ(allocations - before, 1);
    EXPECT_GE(bytes_in_use - bytes_before, 100 * sizeof(double));
  }
  EXPECT_EQ(bytes_in_use, bytes_before);
}

}  // namespace
}  // namespace syncbn
