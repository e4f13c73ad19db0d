// SPDX-License-Identifier: Apache-2.0
#include "app/bench/plain_read.hpp"

#include <cstring>

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "app/bench/plain_read.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace syncbn::app::bench::HWY_NAMESPACE {

std::uint64_t read(const std::byte* data, std::size_t size) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<std::uint64_t> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto* words = reinterpret_cast<const std::uint64_t*>(data);
  const std::size_t count = size / sizeof(std::uint64_t);
  auto a = hn::Zero(d), b = a, c = a, e = a;  // four chains, so that no load waits for the last
  std::size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    a = hn::Xor(a, hn::LoadU(d, words + i));
    b = hn::Xor(b, hn::LoadU(d, words + i + lanes));
    c = hn::Xor(c, hn::LoadU(d, words + i + 2 * lanes));
    e = hn::Xor(e, hn::LoadU(d, words + i + 3 * lanes));
  }
  HWY_ALIGN std::uint64_t last[HWY_MAX_BYTES / sizeof(std::uint64_t)];
  hn::Store(hn::Xor(hn::Xor(a, b), hn::Xor(c, e)), d, last);
  std::uint64_t result = 0;
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    result ^= last[lane];
  }
  for (std::size_t done = i * sizeof(std::uint64_t); done < size; done += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, data + done, done + sizeof word <= size ? sizeof word : size - done);
    result ^= word;
  }
  return result;
}

}  // namespace syncbn::app::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::app::bench {

HWY_EXPORT(read);

std::uint64_t plain_read(const std::byte* data, std::size_t size) {
  return HWY_DYNAMIC_DISPATCH(read)(data, size);
}

}  // namespace syncbn::app::bench
#endif
