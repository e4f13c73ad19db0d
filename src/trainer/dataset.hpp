// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "trainer/idx.hpp"

namespace syncbn::trainer {

/// Holds grey images and their labels.
class Dataset {
 public:
  /// Reads the values of both files; `images` has three axes, `labels` one. Throws FileError, also
  /// where the two do not fit together, which the headers tell before any values are read.
  Dataset(IdxReader images, IdxReader labels);

  std::int64_t size() const { return size_; }
  std::int64_t height() const { return height_; }
  std::int64_t width() const { return width_; }
  std::span<const std::uint8_t> labels() const { return labels_; }
  /// Returns one more than the largest label.
  std::int64_t classes() const;

  /// Counts how often each grey value comes up in all images.
  std::array<std::int64_t, 256> histogram() const;
  /// Returns the CRC-32 of pixels and labels, to tell data sets apart.
  std::uint32_t checksum() const;

  /// Writes image `sample`, its pixels mapped through `value_of`, to `out` [height * width].
  void image(std::int64_t sample, std::span<const float, 256> value_of, float* out) const;

 private:
  std::int64_t size_, height_, width_;
  std::vector<std::uint8_t> pixels_;  ///< [size, height, width]
  std::vector<std::uint8_t> labels_;  ///< [size]
};

/// Holds a data set as it is published: one part to train with, one to test with.
struct Split {
  Dataset train;
  Dataset test;
  /// Returns one more than the largest label of both parts.
  std::int64_t classes() const { return std::max(train.classes(), test.classes()); }
};

/// Reads {train,t10k}-{images-idx3,labels-idx1}-ubyte from `directory`, each with or without .gz.
/// Throws FileError.
Split load_split(const std::filesystem::path& directory);

/// Maps grey values to network inputs: divides by the standard deviation of the pixels in `data`.
/// Black stays 0, so that a black background adds nothing to sums, nor to their rounding errors.
std::array<float, 256> grey_scale(const Dataset& data);

}  // namespace syncbn::trainer
