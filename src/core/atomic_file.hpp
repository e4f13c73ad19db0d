// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <span>

namespace syncbn {

/// Replaces `file` by the concatenated parts, or throws FileError and leaves it as it was. The
/// parts are written to a temporary file beside it, "FILE.syncbn-89abcdef.tmp", which is flushed to
/// the disk and renamed over it; then the directory is flushed.
///
/// If `file` is a symbolic link, it stays one, and its target is replaced or made. Permissions
/// stay; so do owner and group, where the caller may give files away. The temporary file is never
/// more readable than the file that it replaces. One that a killed writer left is removed by a
/// write into that directory ten minutes later or more; the directory is read for it.
///
/// Refuses what a rename cannot replace (require_replaceable), and a link that another user made in
/// a directory such as /tmp.
void write_atomically(const std::filesystem::path& file,
                      std::initializer_list<std::span<const std::byte>> parts);

/// Throws FileError if write_atomically is bound to fail for `file`: its directory is missing or
/// cannot be written to; what is there is no regular file, cannot be changed, is another user's in
/// a sticky directory, or is a mount point, which no rename replaces. (A mount point would have to
/// be written in place, where a killed process leaves half a file.) Makes a temporary file and
/// removes it.
void require_replaceable(const std::filesystem::path& file);

/// Creates `file`, whole from the start, and returns true. Returns false, and changes nothing, if
/// there is anything of that name; links are not followed. Throws FileError if it cannot be
/// written. (On a file system without RENAME_NOREPLACE the file is empty for a moment.)
bool create_atomically(const std::filesystem::path& file,
                       std::initializer_list<std::span<const std::byte>> parts);

}  // namespace syncbn
