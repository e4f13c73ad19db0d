// SPDX-License-Identifier: Apache-2.0
#include "app/bench/tensors.hpp"

#include <algorithm>
#include <cstring>
#include <unistd.h>

#include "core/visit_dtype.hpp"

#include "app/bench/plain_read.hpp"
#include "app/bench/streaming_copy.hpp"
#include "app/threads.hpp"
#include "trainer/random.hpp"

namespace syncbn::app::bench {
namespace {

constexpr std::size_t cache_multiple = 4;
constexpr std::size_t most_sets = 256;

/// Returns the size of the last cache. [B]
std::size_t cache_bytes() {
  constexpr long usual = 64L << 20;
#ifdef _SC_LEVEL3_CACHE_SIZE  // glibc has it
  const long known = sysconf(_SC_LEVEL3_CACHE_SIZE);
#else
  const long known = 0;
#endif
  return static_cast<std::size_t>(known > 0 ? known : usual);
}

}  // namespace

Tensor::Tensor(DType dtype, const Shape& shape, Layout layout)
    : dtype_(dtype),
      shape_(shape),
      layout_(layout),
      bytes_(static_cast<std::size_t>(shape.size()) * size_of(dtype)),
      data_(trainer::allocate_tensor(bytes_), Free{bytes_}) {
  on_parts(
      [this](std::size_t begin, std::size_t size) { std::memset(data_.get() + begin, 0, size); });
}

void Tensor::on_parts(const std::function<void(std::size_t, std::size_t)>& body) const {
  on_all_threads([&](int thread, int threads) {
    constexpr std::size_t line = 64;  // cache line [B]
    const std::size_t lines = (bytes_ + line - 1) / line;
    const auto cut = [&](int part) {
      return std::min(bytes_, lines * static_cast<std::size_t>(part) /
                                  static_cast<std::size_t>(threads) * line);
    };
    body(cut(thread), cut(thread + 1) - cut(thread));
  });
}

void Tensor::copy_from(const Tensor& other) {
  on_parts([&](std::size_t begin, std::size_t size) {
    std::memcpy(data_.get() + begin, other.data_.get() + begin, size);
  });
}

void Tensor::stream_from(const Tensor& other) {
  on_parts([&](std::size_t begin, std::size_t size) {
    streaming_copy(other.data_.get() + begin, data_.get() + begin, size);
  });
}

void Tensor::read() const {
  on_parts([&](std::size_t begin, std::size_t size) { plain_read(data_.get() + begin, size); });
}

void Tensor::fill(std::uint64_t seed) {
  constexpr std::size_t period = 65521;  // prime
  const trainer::Random random({seed});
  visit_dtype(dtype_, [&]<class T>() {
    std::vector<T> values(std::min(period, bytes_ / sizeof(T)));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = from_double<T>(random.normal(i));
    }
    const std::size_t length = values.size() * sizeof(T);
    for (std::size_t done = 0; done < bytes_; done += length) {
      std::memcpy(data_.get() + done, values.data(), std::min(length, bytes_ - done));
    }
  });
}

std::vector<Tensors> make_pool(const Shape& shape, DType dtype, Layout layout, int rank,
                               int cache_sharers) {
  const auto make = [&] { return Tensor(dtype, shape, layout); };
  const std::size_t set_bytes = 4 * static_cast<std::size_t>(shape.size()) * size_of(dtype);
  const std::size_t sets = std::clamp(
      cache_multiple * cache_bytes() / static_cast<std::size_t>(cache_sharers) / set_bytes + 1,
      std::size_t{1}, most_sets);
  std::vector<Tensors> pool;
  for (std::size_t i = 0; i < sets; ++i) {
    pool.push_back({make(), make(), make(), make()});
    if (i == 0) {
      pool[0].x.fill(2 * static_cast<std::uint64_t>(rank));
      pool[0].dy.fill(2 * static_cast<std::uint64_t>(rank) + 1);
    } else {
      pool[i].x.copy_from(pool[0].x);
      pool[i].dy.copy_from(pool[0].dy);
    }
  }
  return pool;
}

}  // namespace syncbn::app::bench
