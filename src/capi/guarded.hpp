// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <utility>

#include "syncbn/c/syncbn.h"

namespace syncbn::capi {

/// Turns the exception in flight into a status and keeps its message for syncbn_last_error.
syncbn_status status_of_current_exception() noexcept;

/// Runs `body`; no exception leaves the C ABI.
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
void require(const void* pointer, const char* name);

}  // namespace syncbn::capi
