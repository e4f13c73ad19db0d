// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/channel_sums.hpp"

#include <algorithm>

#include "kernels/cpu/partial_sums.hpp"
#include "kernels/cpu/run_blocks.hpp"

namespace syncbn::kernels::cpu {
namespace {

/// Sums over one block. Each channel has a vector for either sum, which is added up across its
/// lanes when the block is done.
void sum_block(const SumKernel& kernel, const Coefficients& coefficients, const Planes& planes,
               const Planes::Block& block, const PartialSums& sums) {
  alignas(64) double first[Planes::max_channels * most_lanes];
  alignas(64) double second[Planes::max_channels * most_lanes];
  const std::int64_t channels = block.channels.size();
  std::fill_n(first, channels * kernel.lanes, 0.0);
  std::fill_n(second, channels * kernel.lanes, 0.0);
  const std::int64_t begin = block.channels.begin - planes.channels().begin;
  plane_by_plane(planes, block, kernel.weight, kernel.order.step, kernel.strands,
                 [&](const Strands& of) {
                   kernel.planes(kernel.kernel, of, coefficients, begin, first, second);
                 });
  for (std::int64_t c = 0; c < channels; ++c) {
    sums.first(block.part)[begin + c] = kernel.sum_of_lanes(first + c * kernel.lanes);
    sums.second(block.part)[begin + c] = kernel.sum_of_lanes(second + c * kernel.lanes);
  }
}

/// Adds up the columns of each channel in the order of their numbers.
void fold(double* sums, const Columns& columns, const VectorOrder& order, double* totals) {
  const ChannelRange& channels = columns.channels();
  order.to_memory(sums, columns.padded_width());
  std::fill(totals + channels.begin, totals + channels.end, 0.0);
  for (const double* const end = sums + columns.width(); sums < end;) {
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      for (std::int64_t s = 0; s < columns.extents().plane; ++s) {
        totals[c] += *sums++;
      }
    }
  }
}

}  // namespace

void sum_channels(const ConstTensorView& x, const ChannelRange& channels, const SumKernel& kernel,
                  const Coefficients& coefficients, double* first, double* second,
                  Scratch& scratch) {
  const Extents extents = extents_of(x.shape(), x.layout());
  if (extents.size() == 0) {
    std::fill(first + channels.begin, first + channels.end, 0.0);
    std::fill(second + channels.begin, second + channels.end, 0.0);
  } else if (has_long_planes(extents)) {
    const Planes planes(extents, channels, Purpose::sums);
    const PartialSums sums(planes.parts(), channels.size(), scratch);
    run_blocks(planes, Order::forward, [&](const Planes::Block& block) {
      sum_block(kernel, coefficients, planes, block, sums);
    });
    sums.combine();
    std::copy_n(sums.first(0), channels.size(), first + channels.begin);
    std::copy_n(sums.second(0), channels.size(), second + channels.begin);
  } else {
    const Columns columns(extents, channels, Purpose::sums);
    const PartialSums sums(columns.parts(), columns.padded_width(), scratch);
    const Coefficients table = by_columns(coefficients, columns, kernel.order, scratch);
    run_blocks(columns, Order::forward, [&](const Columns::Block& block) {
      across_columns(columns, block, kernel.weight, kernel.rows, [&](const PieceOfRows& of) {
        kernel.columns(kernel.kernel, of, table, sums.first(block.part), sums.second(block.part));
      });
    });
    sums.combine();
    fold(sums.first(0), columns, kernel.order, first);
    fold(sums.second(0), columns, kernel.order, second);
  }
}

}  // namespace syncbn::kernels::cpu
