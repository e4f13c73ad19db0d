// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

namespace syncbn::trainer {

/// The size of a transparent huge page of x86-64, and of others with pages of 4 KiB. [B]
inline constexpr std::size_t huge_page = std::size_t{2} << 20;

/// Memory for a tensor, not touched yet, on a multiple of 64 bytes. From `huge_page` bytes on, the
/// system is asked for huge pages, of which a pass over memory needs 1/512 as many translations of
/// addresses, and whole ones are taken: up to 2 MiB more than `bytes`. Systems that have none, or
/// grant none, give small pages. Throws std::bad_alloc. Freed by free_tensor with the same `bytes`.
std::byte* allocate_tensor(std::size_t bytes);
void free_tensor(std::byte* tensor, std::size_t bytes) noexcept;

/// That memory for containers of the standard library.
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
