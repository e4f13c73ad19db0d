// SPDX-License-Identifier: Apache-2.0
#include "trainer/tensor_memory.hpp"

#include <new>

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

namespace syncbn::trainer {
namespace {

std::align_val_t alignment(std::size_t bytes) {
  return std::align_val_t{bytes < huge_page ? 64 : huge_page};
}

void ask_for_huge_pages([[maybe_unused]] std::byte* begin, [[maybe_unused]] std::size_t bytes) {
#ifdef MADV_HUGEPAGE                     // Linux
  madvise(begin, bytes, MADV_HUGEPAGE);  // where it fails, the pages are small
#endif
}

}  // namespace

std::byte* allocate_tensor(std::size_t bytes) {
  if (bytes < huge_page) {
    return static_cast<std::byte*>(operator new(bytes, alignment(bytes)));
  }
  const std::size_t whole = (bytes + huge_page - 1) / huge_page * huge_page;
  if (whole < bytes) {
    throw std::bad_alloc();
  }
  auto* tensor = static_cast<std::byte*>(operator new(whole, alignment(bytes)));
  ask_for_huge_pages(tensor, whole);
  return tensor;
}

void free_tensor(std::byte* tensor, std::size_t bytes) noexcept {
  operator delete(tensor, alignment(bytes));
}

}  // namespace syncbn::trainer
