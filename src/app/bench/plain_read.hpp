// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace syncbn::app::bench {

/// Reads memory once and does as little as possible with it: a sum over a large tensor cannot cost
/// less. Returns the exclusive or of the 8-byte words; a last one of fewer bytes is filled up with
/// 0.
std::uint64_t plain_read(const std::byte* data, std::size_t size);

}  // namespace syncbn::app::bench
