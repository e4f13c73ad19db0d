// SPDX-License-Identifier: Apache-2.0
#pragma once

// Walks over a tensor for tallies of its channels: as in channel_sums.hpp, but free to take
// elements in any order.
//
// A tally is what terms are taken into when their order does not matter (integers, maxima, bits).
// It consists of some slots of 64 bits in every lane, and of how two words of a slot are merged.

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

/// Says how two words of a slot become one.
enum class Merge : std::uint8_t {
  add,     ///< the sum of integers, at most `addable` of them
  either,  ///< the bitwise or
  larger,  ///< the maximum of doubles that are at least 0
  plus,    ///< the sum of doubles, of which only infinities and NaNs matter
};

/// Merges a word of a slot into the total.
void merge_word(Merge how, std::int64_t word, std::int64_t& total);

inline constexpr std::size_t most_slots = 6;

struct TallySlots {
  std::array<Merge, most_slots> merges;
  std::array<bool, most_slots> used;  ///< slots that are not used take no room

  /// Returns how many of the slots before slot k are used.
  constexpr std::int64_t before(std::size_t k) const {
    std::int64_t count = 0;
    for (std::size_t j = 0; j < k; ++j) {
      count += used[j] ? 1 : 0;
    }
    return count;
  }
  constexpr std::int64_t count() const { return before(most_slots); }
};

/// What a walk needs to know of a kernel, and the functions that it calls.
struct TallyKernel {
  const void* kernel;   ///< passed to the functions
  const float* weight;  ///< null, or the positions' weights
  TallySlots slots;
  VectorOrder order;
  std::int64_t lanes;    ///< words in a vector of a slot
  std::int64_t vectors;  ///< vectors of terms in a step
  std::int64_t strands;  ///< how many strands are best taken together
  std::int64_t rows;     ///< how many rows are best taken together
  /// Takes the terms of strands into one vector of each slot per channel. A slot is `apart` words
  /// from the next; the strands' first channel is the c-th that there are coefficients for.
  void (*planes)(const void* kernel, const Strands&, const Coefficients&, std::int64_t c,
                 std::int64_t* slots, std::int64_t apart);
  /// Takes the terms of some rows into the slots of all columns, which lie in the order of vectors.
  void (*columns)(const void* kernel, const PieceOfRows&, const Coefficients&, std::int64_t* slots,
                  std::int64_t apart);
  /// Merges all lanes of a vector of each slot into a channel's totals.
  void (*take_vectors)(const std::int64_t* slots, std::int64_t apart, std::int64_t* totals);
};

/// The number of words in a channel's totals: two for each slot, which for a sum of integers are
/// the halves of an Integer.
inline constexpr std::int64_t total_words = 2 * most_slots;

/// Tallies a range of channels of a tensor with x's shape and layout, and returns their totals
/// [channels][total_words], in memory of `scratch`. There are coefficients for each of the
/// channels.
const std::int64_t* tally_channels(const ConstTensorView& x, const ChannelRange& channels,
                                   const TallyKernel& kernel, const Coefficients& coefficients,
                                   Scratch& scratch);

}  // namespace syncbn::kernels::cpu
