// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace syncbn::app::bench {

/// Copies with stores that bypass the cache, so that no line is read only to be overwritten: what a
/// copy of a large tensor can cost at best. Both begin on a multiple of 64 bytes.
void streaming_copy(const std::byte* from, std::byte* to, std::size_t size);

}  // namespace syncbn::app::bench
