// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace syncbn::trainer {

/// Reads an IDX file of unsigned bytes, the format of MNIST and its relatives, gzipped or plain.
/// The header is read when the file is opened, so that it can be judged before the values take
/// memory.
class IdxReader {
 public:
  /// Opens a file that must have `axes` axes: 3 for images, 1 for labels. Throws FileError if it
  /// cannot be opened, is no regular file, or is not of that kind.
  IdxReader(const std::filesystem::path& file, int axes);
  IdxReader(IdxReader&&) noexcept;
  ~IdxReader();

  const std::filesystem::path& path() const;
  /// Returns the lengths of the axes, above 0.
  const std::vector<std::int64_t>& shape() const { return shape_; }

  /// Returns the values, as many as the product of the shape, last axis fastest. May be called
  /// once. Throws FileError if the file is damaged, shorter or longer than its header says, or too
  /// large for the memory.
  std::vector<std::uint8_t> values();

 private:
  class Stream;
  std::unique_ptr<Stream> stream_;
  std::vector<std::int64_t> shape_;
};

}  // namespace syncbn::trainer
