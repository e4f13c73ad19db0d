// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <span>

namespace syncbn {

/// Replaces `file` by the concatenated parts, or throws FileError and leaves it as it was: written
/// to a new file beside it, flushed to the disk, renamed over it, the directory flushed. Links to
/// a file and its permissions stay. What is there and not a regular file is refused.
void write_atomically(const std::filesystem::path& file,
                      std::initializer_list<std::span<const std::byte>> parts);

}  // namespace syncbn
