// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

namespace syncbn::trainer {

/// Transparent huge pages have this size on x86-64, and on others with pages of 4 KiB. [B]
inline constexpr std::size_t huge_page = std::size_t{2} << 20;

/// Allocates memory for a tensor, not touched yet, on a multiple of 64 bytes. From `huge_page`
/// bytes on it takes whole huge pages, up to 2 MiB more than `bytes`, and asks the system to make
/// them huge: a pass over memory then needs 1/512 as many translations of addresses. Systems that
/// have none, or grant none, give small pages. Throws std::bad_alloc. Freed by free_tensor with the
/// same `bytes`.
std::byte* allocate_tensor(std::size_t bytes);
void free_tensor(std::byte* tensor, std::size_t bytes) noexcept;

/// Gives memory of allocate_tensor to containers of the standard library.
template <class T>
struct TensorAllocator {
  using value_type = T;

  TensorAllocator() = default;
  template <class Other>
  TensorAllocator(const TensorAllocator<Other>&) {}

  T* allocate(std::size_t count) {
    return reinterpret_cast<T*>(allocate_tensor(count * sizeof(T)));
  }
  void deallocate(T* data, std::size_t count) noexcept {
    free_tensor(reinterpret_cast<std::byte*>(data), count * sizeof(T));
  }
  bool operator==(const TensorAllocator&) const = default;
};

template <class T>
using TensorBuffer = std::vector<T, TensorAllocator<T>>;

}  // namespace syncbn::trainer
