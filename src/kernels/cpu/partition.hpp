// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syncbn/tensor_view.hpp"

namespace syncbn::kernels::cpu {

/// A tensor of either layout as memory sees it: [rows, channels, plane], dense, in this order.
/// channels_last is rows = N*S of planes of 1; a single channel is one plane of everything.
struct Extents {
  std::int64_t rows;
  std::int64_t channels;
  std::int64_t plane;

  std::int64_t size() const { return rows * channels * plane; }
  /// Long enough for a walk plane by plane, with one channel's coefficients in registers (Planes).
  /// Shorter ones (dense layers, channels_last, tiny images) are taken across channels (Columns).
  bool has_long_planes() const { return plane >= 32; }
};

Extents extents_of(const ConstTensorView& x);

struct Range {
  std::int64_t begin;
  std::int64_t end;

  std::int64_t size() const { return end - begin; }
};

/// How many blocks there are, and how many elements in all. The same shape is always cut into the
/// same blocks, numbered in the order of memory.
struct Work {
  std::int64_t blocks;
  std::int64_t elements;
};

/// Extents with long planes, cut along every axis.
class Planes {
 public:
  /// Most channels in a block.
  static constexpr std::int64_t max_channels = 32;

  struct Block {
    Range rows;
    Range channels;
    Range plane;
    std::int64_t part;  ///< the same for blocks that differ in their channels only
  };

  /// The extents must not be empty.
  explicit Planes(const Extents& extents);

  Work work() const { return {parts() * channel_cuts_, extents_.size()}; }
  std::int64_t parts() const { return row_cuts_ * plane_cuts_; }
  Block block(std::int64_t i) const;

  /// Index of an element.
  std::int64_t index(std::int64_t row, std::int64_t channel, std::int64_t s) const {
    return (row * extents_.channels + channel) * extents_.plane + s;
  }

 private:
  Extents extents_;
  std::int64_t row_cuts_;
  std::int64_t channel_cuts_;
  std::int64_t plane_cuts_;
};

/// Extents with short planes as a matrix, cut into blocks.
///
/// Column j belongs to channel (j / plane) % channels. Where channels are few a row of the matrix
/// is several rows of the tensor, so that vectors are filled whatever their number; then the last
/// row may be shorter.
class Columns {
 public:
  struct Block {
    Range rows;
    Range columns;
    std::int64_t part;  ///< the same for blocks that differ in their columns only
  };

  /// The extents must not be empty.
  explicit Columns(const Extents& extents);

  const Extents& extents() const { return extents_; }
  Work work() const { return {row_cuts_ * column_cuts_, extents_.size()}; }
  std::int64_t parts() const { return row_cuts_; }
  Block block(std::int64_t i) const;

  std::int64_t width() const { return width_; }
  /// The width with room for a whole vector of any length at the end.
  std::int64_t padded_width() const;
  /// Rows of full width, one after the other in memory.
  std::int64_t full_rows() const { return extents_.size() / width_; }
  /// Columns in the last row, if it is shorter; else 0.
  std::int64_t rest() const { return extents_.size() % width_; }

 private:
  Extents extents_;
  std::int64_t width_;
  std::int64_t row_cuts_;
  std::int64_t column_cuts_;
};

}  // namespace syncbn::kernels::cpu
