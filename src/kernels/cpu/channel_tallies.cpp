// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/channel_tallies.hpp"

#include <algorithm>
#include <bit>

#include "channels/fixed_point.hpp"
#include "kernels/cpu/run_blocks.hpp"

namespace syncbn::kernels::cpu {

void merge_word(Merge how, std::int64_t word, std::int64_t& total) {
  const auto a = std::bit_cast<double>(total);
  const auto b = std::bit_cast<double>(word);
  switch (how) {
    case Merge::add:
      total += word;
      break;
    case Merge::either:
      total |= word;
      break;
    case Merge::larger:
      total = std::bit_cast<std::int64_t>(std::max(a, b));
      break;
    case Merge::plus:
      total = std::bit_cast<std::int64_t>(a + b);
      break;
  }
}

namespace {

/// Merges one lane of all slots, which are `apart` words from each other, into a channel's totals.
void take_lane(const TallySlots& slots, const std::int64_t* lane, std::int64_t apart,
               std::int64_t* totals) {
  for (std::size_t k = 0; k < most_slots; ++k) {
    if (slots.used[k]) {
      if (slots.merges[k] == Merge::add) {
        channels::Integer sum{totals[2 * k], totals[2 * k + 1]};
        sum.add(*lane);
        totals[2 * k] = sum.high;
        totals[2 * k + 1] = sum.low;
      } else {
        merge_word(slots.merges[k], *lane, totals[2 * k]);
      }
      lane += apart;
    }
  }
}

void merge_totals(const TallySlots& slots, const std::int64_t* more, std::int64_t* totals) {
  for (std::size_t k = 0; k < most_slots; ++k) {
    merge_word(slots.merges[k], more[2 * k], totals[2 * k]);
    merge_word(slots.merges[k], more[2 * k + 1], totals[2 * k + 1]);
  }
}

std::int64_t* zeros(std::int64_t words, Scratch& scratch) {
  auto* memory = scratch.take<std::int64_t>(words);
  std::fill_n(memory, words, std::int64_t{0});
  return memory;
}

/// Tallies one block. Each channel has a vector for every slot.
class TallyOfBlock {
 public:
  TallyOfBlock(const TallyKernel& kernel, const Coefficients& coefficients, const Planes& planes,
               const Planes::Block& block, std::int64_t* totals)
      : kernel_(kernel),
        coefficients_(coefficients),
        first_(block.channels.begin - planes.channels().begin),
        block_(block),
        apart_(kernel.lanes * block.channels.size()),
        totals_(totals + (block.part * planes.channels().size() + first_) * total_words) {
    clear();
    plane_by_plane(planes, block, kernel.weight, kernel.order.step, kernel.strands,
                   [&](const Strands& of) { take(of); });
    flush();
  }

 private:
  /// Takes strands into the slots, as much at a time as integers of 64 bits can hold. Strands
  /// longer than that are taken channel by channel, so that memory is still read in its order.
  void take(const Strands& all) {
    const std::int64_t step = kernel_.order.step;
    const std::int64_t terms_of_step = all.count * kernel_.vectors;
    const std::int64_t longest = channels::addable / terms_of_step / 2 * step;
    const std::int64_t channels = all.size <= longest ? all.channels : 1;
    for (std::int64_t c = 0; c < all.channels; c += channels) {
      for (std::int64_t s = 0; s < all.size; s += longest) {
        Strands of = all;
        of.i += c * all.plane + s;
        of.size = std::min(all.size - s, longest);
        of.channels = channels;
        of.weights += of.weights == nullptr ? 0 : s;
        const std::int64_t terms = (of.size / step + 1) * terms_of_step;
        if (terms > room_) {
          flush();
        }
        room_ -= terms;
        kernel_.planes(kernel_.kernel, of, coefficients_, first_ + c, slots_ + c * kernel_.lanes,
                       apart_);
      }
    }
  }

  void flush() {
    for (std::int64_t c = 0; c < block_.channels.size(); ++c) {
      kernel_.take_vectors(slots_ + c * kernel_.lanes, apart_, totals_ + c * total_words);
    }
    clear();
  }

  void clear() {
    std::fill_n(slots_, kernel_.slots.count() * apart_, std::int64_t{0});
    room_ = channels::addable;
  }

  const TallyKernel& kernel_;
  const Coefficients& coefficients_;
  std::int64_t first_;  ///< number of the block's first channel among those with coefficients
  const Planes::Block& block_;
  std::int64_t apart_;
  std::int64_t* totals_;
  std::int64_t room_ = 0;  ///< how many integers can still be added to each slot
  alignas(64) std::int64_t slots_[most_slots * Planes::max_channels * most_lanes];
};

/// Merges the slots of each channel's columns into its totals.
void fold(const TallyKernel& kernel, std::int64_t* slots, const Columns& columns,
          std::int64_t* totals) {
  const std::int64_t width = columns.padded_width();
  const std::int64_t rows = columns.parts() * kernel.slots.count();
  kernel.order.to_memory(slots, rows * width);
  for (std::int64_t part = 0; part < columns.parts(); ++part) {
    const std::int64_t* of = slots + part * kernel.slots.count() * width;
    for (const std::int64_t* const end = of + columns.width(); of < end;) {
      for (std::int64_t c = 0; c < columns.channels().size(); ++c) {
        for (std::int64_t s = 0; s < columns.extents().plane; ++s) {
          take_lane(kernel.slots, of++, width, totals + c * total_words);
        }
      }
    }
  }
}

}  // namespace

const std::int64_t* tally_channels(const ConstTensorView& x, const ChannelRange& channels,
                                   const TallyKernel& kernel, const Coefficients& coefficients,
                                   Scratch& scratch) {
  const Extents extents = extents_of(x.shape(), x.layout());
  if (extents.size() == 0) {
    return zeros(channels.size() * total_words, scratch);
  }
  if (has_long_planes(extents)) {
    const Planes planes(extents, channels, Purpose::sums);
    const std::int64_t words = channels.size() * total_words;
    std::int64_t* totals = zeros(planes.parts() * words, scratch);
    run_blocks(planes, Order::forward, [&](const Planes::Block& block) {
      TallyOfBlock(kernel, coefficients, planes, block, totals);
    });
    for (std::int64_t i = words; i < planes.parts() * words; i += total_words) {
      merge_totals(kernel.slots, totals + i, totals + i % words);
    }
    return totals;
  }
  const Columns columns(extents, channels, Purpose::tallies);
  const std::int64_t words = kernel.slots.count() * columns.padded_width();
  std::int64_t* totals = zeros(channels.size() * total_words, scratch);
  std::int64_t* slots = zeros(columns.parts() * words, scratch);
  const Coefficients table = by_columns(coefficients, columns, kernel.order, scratch);
  run_blocks(columns, Order::forward, [&](const Columns::Block& block) {
    across_columns(columns, block, kernel.weight, kernel.rows, [&](const PieceOfRows& of) {
      kernel.columns(kernel.kernel, of, table, slots + block.part * words, columns.padded_width());
    });
  });
  fold(kernel, slots, columns, totals);
  return totals;
}

}  // namespace syncbn::kernels::cpu
