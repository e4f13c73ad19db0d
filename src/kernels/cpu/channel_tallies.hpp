// SPDX-License-Identifier: Apache-2.0
#pragma once

// Tallies over the channels of a tensor: as channel_sums.hpp, but free to add whatever is at hand.
//
// A tally is what becomes of terms when their order does not matter (integers, maxima, bits): some
// slots of 64 bits in every lane, and how they are merged.

#include <array>
#include <cstddef>
#include <cstdint>

#include "syncbn/tensor_view.hpp"

#include "kernels/cpu/across_columns.hpp"
#include "kernels/cpu/coefficients.hpp"
#include "kernels/cpu/plane_by_plane.hpp"
#include "kernels/kernels.hpp"
#include "kernels/scratch.hpp"

namespace syncbn::kernels::cpu {

enum class Merge : std::uint8_t {
  add,     ///< integers, at most `addable` of them
  either,  ///< bits
  larger,  ///< doubles at least 0
  plus,    ///< doubles, of which only infinities and NaNs matter
};

/// Merges a word of a slot with what there is.
void merge_word(Merge how, std::int64_t word, std::int64_t& total);

inline constexpr std::size_t most_slots = 6;

struct TallySlots {
  std::array<Merge, most_slots> merges;
  std::array<bool, most_slots> used;  ///< the others take no room

  /// How many are used, of those before slot k.
  constexpr std::int64_t before(std::size_t k) const {
    std::int64_t count = 0;
    for (std::size_t j = 0; j < k; ++j) {
      count += used[j] ? 1 : 0;
    }
    return count;
  }
  constexpr std::int64_t count() const { return before(most_slots); }
};

struct TallyKernel {
  const void* kernel;   ///< what the functions are called with
  const float* weight;  ///< null, or the positions' weights
  TallySlots slots;
  VectorOrder order;
  std::int64_t lanes;    ///< in a vector of slots
  std::int64_t vectors;  ///< of terms in a step
  std::int64_t strands;  ///< best taken together
  std::int64_t rows;     ///< likewise
  /// Takes the terms of strands into a vector of each slot, `apart` from the next, for each of
  /// their channels, the first of which is the c-th that there are coefficients for.
  void (*planes)(const void* kernel, const Strands&, const Coefficients&, std::int64_t c,
                 std::int64_t* slots, std::int64_t apart);
  /// Takes the terms of some rows into the slots of all columns, in the order of vectors.
  void (*columns)(const void* kernel, const PieceOfRows&, const Coefficients&, std::int64_t* slots,
                  std::int64_t apart);
  /// Takes all lanes of a vector of each slot into a channel's totals.
  void (*take_vectors)(const std::int64_t* slots, std::int64_t apart, std::int64_t* totals);
};

/// Totals of a channel: two words a slot. Of integers these are the halves of an Integer.
inline constexpr std::int64_t total_words = 2 * most_slots;

/// Tallies over channels of a tensor like x: [channels][total_words], in `scratch`. There are
/// coefficients for each of the channels.
const std::int64_t* tally_channels(const ConstTensorView& x, const ChannelRange& channels,
                                   const TallyKernel& kernel, const Coefficients& coefficients,
                                   Scratch& scratch);

}  // namespace syncbn::kernels::cpu
