// SPDX-License-Identifier: Apache-2.0
#include "capi/device_memory.h"

#include <list>
#include <span>

#include "bn/device.hpp"

using syncbn::test::DeviceMemory;

const char* why_no_device(void) {
  return syncbn::test::no_device();
}

void* on_device(const void* bytes, size_t count) {
  static std::list<DeviceMemory> kept;
  const auto* first = static_cast<const std::byte*>(bytes);
  return kept.emplace_back(std::span(first, count)).data();
}

void fetch(const void* from, void* bytes, size_t count) {
  syncbn::test::fetch(from, {static_cast<std::byte*>(bytes), count});
}
