// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include <hwy/detect_compiler_arch.h>

#include "syncbn/tensor_view.hpp"

#include "kernels/extents.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::kernels::cpu {

/// Whether planes are long enough for a walk plane by plane, with one channel's coefficients in
/// registers (Planes). Shorter ones (dense layers, channels_last, tiny images) are taken across
/// channels (Columns).
constexpr bool has_long_planes(const Extents& extents) {
  return extents.plane >= 32;
}

/// What blocks are for. Sums want many rows in a block, so that there are few sums; elements want
/// rows as whole as a block holds, so that memory is written in one go. Sums of integers by columns
/// want no more rows than can be added (fixed_point.hpp).
enum class Purpose : std::uint8_t { sums, tallies, elements };

/// The most elements that a kernel's step has (elements-inl.hpp).
inline constexpr std::int64_t longest_step = 128;

/// The most bytes that they have.
inline constexpr std::size_t longest_step_bytes = 512;

/// The most lanes of 64 bits that a vector has.
inline constexpr std::int64_t most_lanes = HWY_ARCH_X86 ? 8 : 32;

struct Range {
  std::int64_t begin;
  std::int64_t end;

  std::int64_t size() const { return end - begin; }
};

/// How many blocks there are, and how many elements in all. For the same purpose, the same range of
/// channels of the same shape is always cut into the same blocks, numbered in the order of memory.
struct Work {
  std::int64_t blocks;
  std::int64_t elements;
};

/// Some channels of extents with long planes, cut along every axis. For sums, rows and planes are
/// cut alike whatever the channels: a channel's sums are made of the same parts.
class Planes {
 public:
  /// Most channels in a block for sums.
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

  /// Index of an element.
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

/// Some channels of extents with short planes as a matrix, cut into blocks.
///
/// Column j belongs to the (j / plane % channels)-th of them. Where all channels are taken and are
/// few, a row of the matrix is several rows of the tensor, so that vectors are filled whatever
/// their number; then the last row may be shorter. Else rows are cut alike whatever the channels.
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
  /// The width with room for two whole vectors of any length at the end.
  std::int64_t padded_width() const;
  /// Rows of full width.
  std::int64_t full_rows() const { return extents_.rows / abreast_; }
  /// Columns in the last row, if it is shorter; else 0.
  std::int64_t rest() const {
    return extents_.rows % abreast_ * extents_.channels * extents_.plane;
  }
  /// Rows of the tensor in a row of the matrix. More than 1 only if all channels are taken.
  std::int64_t abreast() const { return abreast_; }

  /// Index of an element.
  std::int64_t index(std::int64_t row, std::int64_t column) const {
    return (row * abreast_ * extents_.channels + channels_.begin) * extents_.plane + column;
  }
  /// From an element to the one below.
  std::int64_t stride() const { return abreast_ * extents_.channels * extents_.plane; }

 private:
  std::int64_t rows() const { return full_rows() + (rest() != 0 ? 1 : 0); }

  Extents extents_;
  ChannelRange channels_;
  std::int64_t abreast_;
  std::int64_t width_;
  std::int64_t row_cuts_;
  std::int64_t row_grain_;  ///< of their cuts
  std::int64_t column_cuts_;
};

}  // namespace syncbn::kernels::cpu
