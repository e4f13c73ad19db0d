// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "syncbn/c/syncbn.h"
#include "syncbn/error.hpp"

#include "core/internal_api.hpp"

namespace syncbn::capi {

/// Turns the exception in flight into a status and keeps its message for syncbn_last_error.
SYNCBN_INTERNAL_API syncbn_status status_of_current_exception() noexcept;

/// Runs `body` and returns an exception as a status, so that none leaves the C ABI.
template <class Body>
syncbn_status guarded(Body&& body) {
  try {
    std::forward<Body>(body)();
    return SYNCBN_OK;
  } catch (...) {
    return status_of_current_exception();
  }
}

/// Throws InvalidArgument if `pointer` is null.
SYNCBN_INTERNAL_API void require(const void* pointer, const char* name);

/// Returns what `get` returns. If the handle is null or `get` throws, returns `otherwise` and
/// leaves a message for syncbn_last_error.
template <class Handle, class Get, class Value = std::invoke_result_t<Get>>
Value value_of(Handle* handle, const char* name, Get get, Value otherwise = {}) {
  Value value = otherwise;
  guarded([&] {
    require(handle, name);
    value = get();
  });
  return value;
}

/// Returns `count` values that C gives by their address; of no values, nothing is asked. Throws
/// InvalidArgument if the address is null or not a multiple of their alignment, or the array's end
/// is beyond all memory.
template <class T>
std::span<T> to_span(T* values, std::size_t count, const char* name) {
  constexpr std::size_t most = std::numeric_limits<std::ptrdiff_t>::max() / sizeof(T);
  if (count == 0) {
    return {};
  }
  require(values, name);
  if (count > most || reinterpret_cast<std::uintptr_t>(values) % alignof(T) != 0) {
    throw InvalidArgument(
        std::string(name) + " of " + std::to_string(count) + " values at address " +
        std::to_string(reinterpret_cast<std::uintptr_t>(values)) + " (at most " +
        std::to_string(most) + " values, at a multiple of " + std::to_string(alignof(T)) + ")");
  }
  return {values, count};
}

}  // namespace syncbn::capi
