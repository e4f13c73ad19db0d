// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include <hwy/detect_compiler_arch.h>

#include "syncbn/tensor_view.hpp"

#include "kernels/extents.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::kernels::cpu {

/// Tells whether planes are long enough for a walk plane by plane, with one channel's coefficients
/// in registers (Planes). Where they are shorter (dense layers, channels_last, tiny images), walks
/// go across channels (Columns).
constexpr bool has_long_planes(const Extents& extents) {
  return extents.plane >= 32;
}

/// Says what blocks are for. Sums want many rows in a block, so that there are few partial sums;
/// elements want rows as whole as a block holds, so that memory is written in one go. Tallies, sums
/// of integers, want no more rows by columns than can be added in 64 bits (fixed_point.hpp).
enum class Purpose : std::uint8_t { sums, tallies, elements };

/// The most elements that a kernel's step has (elements-inl.hpp).
inline constexpr std::int64_t longest_step = 128;

/// The most bytes that the elements of a step have.
inline constexpr std::size_t longest_step_bytes = 512;

/// The most lanes of 64 bits that a vector has.
inline constexpr std::int64_t most_lanes = HWY_ARCH_X86 ? 8 : 32;

struct Range {
  std::int64_t begin;
  std::int64_t end;

  std::int64_t size() const { return end - begin; }
};

/// Says how many blocks and how many elements there are in all. For the same purpose, the same
/// range of channels of the same shape is always cut into the same blocks, numbered in the order of
/// memory.
struct Work {
  std::int64_t blocks;
  std::int64_t elements;
};

/// Cuts a range of channels with long planes into blocks, along every axis. For sums, rows and
/// planes are cut alike whatever the range, so that a channel's sums are always made of the same
/// parts.
class Planes {
 public:
  /// The most channels in a block for sums.
  static constexpr std::int64_t max_channels = 128;

  struct Block {
    Range rows;
    Range channels;
    Range plane;
    std::int64_t part;  ///< the same for blocks that differ in their channels only
  };

  /// Neither the extents nor the channels may be empty.
  Planes(const Extents& extents, const ChannelRange& channels, Purpose purpose);

  const Extents& extents() const { return extents_; }
  const ChannelRange& channels() const { return channels_; }
  Work work() const {
    return {parts() * channel_cuts_, extents_.rows * channels_.size() * extents_.plane};
  }
  std::int64_t parts() const { return row_cuts_ * plane_cuts_; }
  Block block(std::int64_t i) const;

  /// Returns the index of an element in the tensor.
  std::int64_t index(std::int64_t row, std::int64_t channel, std::int64_t s) const {
    return (row * extents_.channels + channel) * extents_.plane + s;
  }

 private:
  Extents extents_;
  ChannelRange channels_;
  std::int64_t row_cuts_;
  std::int64_t channel_cuts_;
  std::int64_t plane_cuts_;
};

/// Views a range of channels with short planes as a matrix, and cuts it into blocks.
///
/// Column j belongs to the (j / plane % channels)-th channel of the range. Where the range is all
/// channels and they are few, a row of the matrix is several rows of the tensor side by side, so
/// that vectors are filled however few channels there are; then the last row may be shorter.
/// Otherwise rows are cut alike whatever the range.
class Columns {
 public:
  struct Block {
    Range rows;
    Range columns;
    std::int64_t part;  ///< the same for blocks that differ in their columns only
  };

  /// Neither the extents nor the channels may be empty.
  Columns(const Extents& extents, const ChannelRange& channels, Purpose purpose);

  const Extents& extents() const { return extents_; }
  const ChannelRange& channels() const { return channels_; }
  Work work() const {
    return {row_cuts_ * column_cuts_, extents_.rows * channels_.size() * extents_.plane};
  }
  std::int64_t parts() const { return row_cuts_; }
  Block block(std::int64_t i) const;

  std::int64_t width() const { return width_; }
  /// Returns the width rounded up so that whole steps of any length fit.
  std::int64_t padded_width() const;
  /// Returns the number of rows of full width.
  std::int64_t full_rows() const { return extents_.rows / abreast_; }
  /// Returns the number of columns in the last row if it is shorter, else 0.
  std::int64_t rest() const {
    return extents_.rows % abreast_ * extents_.channels * extents_.plane;
  }
  /// Returns how many rows of the tensor are in a row of the matrix; 1 unless the range is all
  /// channels.
  std::int64_t abreast() const { return abreast_; }

  /// Returns the index of an element in the tensor.
  std::int64_t index(std::int64_t row, std::int64_t column) const {
    return (row * abreast_ * extents_.channels + channels_.begin) * extents_.plane + column;
  }
  /// Returns the distance from an element to the one below, in elements.
  std::int64_t stride() const { return abreast_ * extents_.channels * extents_.plane; }

 private:
  std::int64_t rows() const { return full_rows() + (rest() != 0 ? 1 : 0); }

  Extents extents_;
  ChannelRange channels_;
  std::int64_t abreast_;
  std::int64_t width_;
  std::int64_t row_cuts_;
  std::int64_t row_grain_;  ///< cuts between rows fall on its multiples
  std::int64_t column_cuts_;
};

}  // namespace syncbn::kernels::cpu
