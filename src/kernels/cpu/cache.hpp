// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace syncbn::kernels::cpu {

/// Bytes of cache that this process may count on: its threads' second-level caches, or, where that
/// is more, their part of the last one, shared evenly by the processors behind it.
std::int64_t cache_bytes();

}  // namespace syncbn::kernels::cpu
