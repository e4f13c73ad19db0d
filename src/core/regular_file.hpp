// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "core/file_descriptor.hpp"

namespace syncbn {

/// Reads a regular file front to back.
class RegularFile {
 public:
  /// Throws FileError if it cannot be opened, or is a directory, a device or a pipe: these have no
  /// size, and a read might wait for somebody who never writes.
  explicit RegularFile(std::filesystem::path path);

  /// Returns the bytes in the whole file, when it was opened.
  std::uint64_t size() const { return size_; }

  /// Fills `bytes` with those that come next. Throws FileError if the file ends before or cannot be
  /// read.
  void read(std::span<std::byte> bytes);

 private:
  std::filesystem::path path_;
  FileDescriptor descriptor_;
  std::uint64_t size_ = 0;
};

}  // namespace syncbn
