// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace syncbn::app::bench {

/// Copies with stores that bypass the cache, so that no cache line is read only to be overwritten:
/// a copy of a large tensor cannot cost less. Both addresses are multiples of 64 bytes.
void streaming_copy(const std::byte* from, std::byte* to, std::size_t size);

}  // namespace syncbn::app::bench
