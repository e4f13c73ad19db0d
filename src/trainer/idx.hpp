// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace syncbn::trainer {

/// The contents of an IDX file of unsigned bytes: the format of MNIST and its relatives.
struct Idx {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> values;  ///< product of shape of them, last axis fastest
};

/// Reads an IDX file, gzipped or plain. `axes` is how many it must have: 3 for images, 1 for
/// labels. Throws FileError if it cannot be read, is not of that kind, or is shorter or longer than
/// its header says.
Idx load_idx(const std::filesystem::path& file, int axes);

}  // namespace syncbn::trainer
