// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace syncbn::app::bench {

/// Reads memory once and does as little as it can with it: what a sum over a large tensor can cost
/// at best. Returns the exclusive or of its 8-byte words, a last one of fewer bytes filled up with
/// 0.
std::uint64_t plain_read(const std::byte* data, std::size_t size);

}  // namespace syncbn::app::bench
