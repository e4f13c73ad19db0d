// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace syncbn::kernels::cpu {

/// Returns the bytes of cache that this process may count on: its threads' second-level caches or,
/// where that is more, their part of the last level. The processors behind a last level share it
/// evenly, at most 16 MiB each.
std::int64_t cache_bytes();

}  // namespace syncbn::kernels::cpu
