// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace syncbn::test {

using Bytes = std::vector<std::uint8_t>;

/// The bytes of an IDX file: its header, then `values`.
Bytes idx_bytes(const std::vector<std::uint32_t>& shape, const Bytes& values);

enum class Compression { none, gzip };

void write_file(const std::filesystem::path& file, const Bytes& bytes,
                Compression compression = Compression::none);
Bytes read_bytes(const std::filesystem::path& file);

/// A new directory, removed with all that is in it at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Writes a data set in MNIST's format: `train` and `test` images of side x side, dark, with a
/// bright stripe whose place tells the label, and noise. Different for another `seed`. Labels
/// are below `classes`.
void write_data_set(const std::filesystem::path& directory, std::uint32_t train, std::uint32_t test,
                    std::uint32_t side, std::uint64_t seed = 1, std::uint32_t classes = 10);

}  // namespace syncbn::test
