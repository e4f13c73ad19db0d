// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/partition.hpp"

#include <algorithm>
#include <numeric>

#include "channels/fixed_point.hpp"
#include "kernels/cpu/cpu.hpp"

namespace syncbn::kernels::cpu {
namespace {

// A block has about min_block elements: enough to be worth handing to a thread, few enough to
// spread a tensor of middling size over many threads. Large tensors have larger blocks, about as
// many as said here, for sums (to keep partial sums few) and by columns.
constexpr std::int64_t min_block = std::int64_t{1} << 16;
constexpr std::int64_t blocks_by_planes = 256;
constexpr std::int64_t blocks_by_columns = 64;

// The fewest rows in a block by planes for sums, if it holds as much and the tensor has as many:
// sums advance in several rows at once.
constexpr std::int64_t rows_of_planes = 4;

// The fewest rows over which a block by columns sums, unless the tensor has fewer.
constexpr std::int64_t rows_per_sum = 64;

// Cuts between rows of a matrix fall on multiples of this for sums; it is the most rows that
// kernels take together.
constexpr std::int64_t rows_together = 8;

// The most columns in a block for elements: their coefficients are read once a row.
constexpr std::int64_t most_columns = 16384;

// Cuts within planes and within rows fall on multiples of this, so that steps of any length end
// there (elements-inl.hpp).
constexpr std::int64_t grain = longest_step;

// The bytes that should at least be read before going on to another row.
constexpr std::int64_t stretch = 1024;

// The number of columns that a row of the matrix should at least have.
constexpr std::int64_t wide_row = 512;

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Returns into how many parts an extent is cut if none may be longer than `longest`.
std::int64_t cuts(std::int64_t extent, std::int64_t longest) {
  return divide_up(extent, std::clamp<std::int64_t>(longest, 1, extent));
}

// Returns part i of `count`. All parts have the same number of `step`s, give or take one.
Range cut(std::int64_t extent, std::int64_t count, std::int64_t i, std::int64_t step = 1) {
  const std::int64_t steps = divide_up(extent, step);
  return {std::min(extent, steps * i / count * step),
          std::min(extent, steps * (i + 1) / count * step)};
}

// Returns how many rows of `columns` to lay side by side: as many as make a wide row, if possible
// so many that two vectors of 16 lanes fit evenly.
std::int64_t rows_abreast(std::int64_t columns, std::int64_t rows) {
  const std::int64_t fit = wide_row / columns;
  const std::int64_t even = 32 / std::gcd(columns, std::int64_t{32});
  return std::clamp<std::int64_t>(fit >= even ? fit / even * even : fit, 1, rows);
}

}  // namespace

std::int64_t least_channels(const ConstTensorView& x) {
  const Extents extents = extents_of(x.shape(), x.layout());
  if (!has_long_planes(extents)) {
    return extents.channels;  // rows in pieces cost more than the cache saves, however long a piece
  }
  const auto channel = extents.plane * static_cast<std::int64_t>(size_of(x.dtype()));
  return std::min(divide_up(stretch, channel), extents.channels);
}

Planes::Planes(const Extents& extents, const ChannelRange& channels, Purpose purpose)
    : extents_(extents), channels_(channels) {
  const bool sums = purpose != Purpose::elements;
  const std::int64_t block =
      sums ? std::max(min_block, extents.size() / blocks_by_planes) : min_block;
  const std::int64_t plane = std::min(extents.plane, block);
  const std::int64_t rows = sums ? std::min(extents.rows, rows_of_planes) : 1;
  const std::int64_t most = sums ? std::min(extents.channels, max_channels) : channels.size();
  const std::int64_t abreast = std::clamp<std::int64_t>(block / (rows * plane), 1, most);
  plane_cuts_ = cuts(extents.plane, plane);
  channel_cuts_ = cuts(channels.size(), abreast);
  row_cuts_ = cuts(extents.rows, block / (abreast * plane));
}

Planes::Block Planes::block(std::int64_t i) const {
  const std::int64_t plane = i % plane_cuts_;
  const std::int64_t channel = i / plane_cuts_ % channel_cuts_;
  const std::int64_t row = i / plane_cuts_ / channel_cuts_;
  Range channels = cut(channels_.size(), channel_cuts_, channel);
  channels.begin += channels_.begin;
  channels.end += channels_.begin;
  return {cut(extents_.rows, row_cuts_, row), channels,
          cut(extents_.plane, plane_cuts_, plane, grain), row * plane_cuts_ + plane};
}

Columns::Columns(const Extents& extents, const ChannelRange& channels, Purpose purpose)
    : extents_(extents), channels_(channels) {
  const bool all = channels.size() == extents.channels;
  const std::int64_t once = extents.channels * extents.plane;
  abreast_ = all ? rows_abreast(once, extents.rows) : 1;
  width_ = channels.size() * extents.plane * abreast_;
  const std::int64_t whole = once * abreast_;  // a row's width with all channels
  const std::int64_t block = std::max(min_block, extents.size() / blocks_by_columns);
  const bool sums = purpose != Purpose::elements;
  const std::int64_t most = sums ? block / rows_per_sum : most_columns;
  const std::int64_t columns = std::clamp(most, std::min(whole, wide_row), whole);
  column_cuts_ = cuts(width_, columns);
  const std::int64_t longest = block / columns;
  // Parts cut on multiples of rows_together may be longer by up to twice that.
  row_cuts_ = cuts(rows(), purpose == Purpose::tallies
                               ? std::min(longest, channels::addable - 2 * rows_together)
                               : longest);
  row_grain_ = sums ? rows_together : 1;
}

std::int64_t Columns::padded_width() const {
  return divide_up(width_, grain) * grain;
}

Columns::Block Columns::block(std::int64_t i) const {
  const std::int64_t row = i / column_cuts_;
  return {cut(rows(), row_cuts_, row, row_grain_),
          cut(width_, column_cuts_, i % column_cuts_, grain), row};
}

}  // namespace syncbn::kernels::cpu
