// SPDX-License-Identifier: Apache-2.0
#include "app/bench/streaming_copy.hpp"

#include <cstdint>
#include <cstring>

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "app/bench/streaming_copy.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace syncbn::app::bench::HWY_NAMESPACE {

void copy(const std::byte* from, std::byte* to, std::size_t size) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<std::uint8_t> d;
  constexpr std::size_t ahead = 2048;
  const auto* source = reinterpret_cast<const std::uint8_t*>(from);
  auto* target = reinterpret_cast<std::uint8_t*>(to);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= size; i += hn::Lanes(d)) {
    hwy::Prefetch(source + i + ahead);
    hn::Stream(hn::Load(d, source + i), d, target + i);
  }
  std::memcpy(target + i, source + i, size - i);
  hwy::FlushStream();
}

}  // namespace syncbn::app::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::app::bench {

HWY_EXPORT(copy);

void streaming_copy(const std::byte* from, std::byte* to, std::size_t size) {
  HWY_DYNAMIC_DISPATCH(copy)(from, to, size);
}

}  // namespace syncbn::app::bench
#endif
