// SPDX-License-Identifier: Apache-2.0

// Tallies over the channels of a tensor: as channel_sums-inl.hpp, but free to add whatever is at
// hand.

#if defined(SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL
#undef SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL
#else
#define SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL
#endif

#include <algorithm>
#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/across_columns-inl.hpp"
#include "kernels/cpu/coefficients-inl.hpp"
#include "kernels/cpu/partition.hpp"
#include "kernels/cpu/plane_by_plane-inl.hpp"
#include "kernels/cpu/run_blocks.hpp"
#include "kernels/cpu/tallies-inl.hpp"
#include "kernels/cpu/weights-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

// A Kernel is as in channel_sums-inl.hpp, but the coefficients of its terms, which are of double,
// begin with first_grid and second_grid, and it does not add its terms up itself:
//
//   (i, k, weights, extent, add)    calls add(at, p, q, r) for every vector of terms p and q * r of
//                                   what there is of a step from index i on; zeros for the others

/// Each channel has a vector for every slot.
template <class Kernel, class Tally>
struct TallyByPlanes {
  using T = typename Kernel::Element;

  static constexpr int strands = Tally::is_rare ? 1 : 4 / Kernel::inputs;

  const Kernel& kernel;
  const Planes& planes;
  std::int64_t* totals;  ///< [part][channel][total_words], zeros at first

  void operator()(const Planes::Block& block) const {
    HWY_ALIGN std::int64_t memory[slots_of<Tally> * Planes::max_channels * hn::MaxLanes(SumTag())];
    State state{block, memory, sum_lanes() * block.channels.size(), addable};
    std::fill_n(memory, slots_of<Tally> * state.apart, std::int64_t{0});
    plane_by_plane<strands>(kernel, planes, block,
                            [&](const auto& of, const auto& k, std::int64_t c)
                                HWY_ATTR { run(of, k, state, memory + c * sum_lanes()); });
    flush(state);
  }

 private:
  struct State {
    const Planes::Block& block;
    std::int64_t* memory;  ///< [slot][channel][lane]
    std::int64_t apart;
    std::int64_t room;  ///< how many integers can still be added to each of them
  };

  static std::int64_t sum_lanes() { return static_cast<std::int64_t>(hn::Lanes(SumTag())); }

  // `to`: the slots of their channel.
  template <int kStrands, class K>
  HWY_NOINLINE void run(const Strands<kStrands>& of, const K& k, State& state,
                        std::int64_t* to) const {
    constexpr std::int64_t terms_of_step = std::int64_t{kStrands} * vectors_of_terms<T>;
    constexpr std::int64_t longest = addable / terms_of_step / 2;
    const std::int64_t step = step_of<T>();
    for (std::int64_t s = 0; s < of.size;) {
      const std::int64_t end = std::min(of.size, s + longest * step);
      const std::int64_t terms = ((end - s) / step + 1) * terms_of_step;
      if (terms > state.room) {
        flush(state);
      }
      state.room -= terms;
      const CountTag dw;
      Count v0 = hn::Zero(dw), v1 = v0, v2 = v0, v3 = v0, v4 = v0, v5 = v0;
      const Slots slots{v0, v1, v2, v3, v4, v5};
      const auto add_steps = [&](std::int64_t at, auto extent) HWY_ATTR {
        for (std::int64_t strand = 0; strand < kStrands; ++strand) {
          const std::int64_t i = of.i + strand * of.apart + at;
          kernel.prefetch(i + prefetch_distance<T>);
          kernel(i, k, of.weights + (Kernel::weighted ? strand * of.weights_apart + at : 0), extent,
                 [&](auto vector, Sum p, Sum q, Sum r)
                     HWY_ATTR { Tally::add(slots, k, vector, p, q, r); });
        }
      };
      for (; s + step <= end; s += step) {
        add_steps(s, Whole{});
      }
      if (s < end) {
        if (of.more) {
          add_steps(s, Over{end - s});
        } else {
          add_steps(s, First{end - s});
        }
        s = end;
      }
      merge_into<Tally>(to, state.apart, slots);
    }
  }

  HWY_NOINLINE void flush(State& state) const {
    const Planes::Block& block = state.block;
    const std::int64_t first = block.channels.begin - planes.channels().begin;
    std::int64_t* to = totals + (block.part * planes.channels().size() + first) * total_words;
    for (std::int64_t c = 0; c < block.channels.size(); ++c) {
      take_vector<Tally>(state.memory + c * sum_lanes(), state.apart, to + c * total_words);
    }
    std::fill_n(state.memory, slots_of<Tally> * state.apart, std::int64_t{0});
    state.room = addable;
  }
};

/// Each column has its own slots, in the order of place_of.
template <class Kernel, class Tally>
struct TallyByColumns {
  using T = typename Kernel::Element;
  using Coefficients = Table<T, typename Kernel::Channel>;
  using View = typename Coefficients::View;

  static constexpr int rows_together = Kernel::weighted || Tally::is_rare ? 1 : 8 / Kernel::inputs;

  const Kernel& kernel;
  const Columns& columns;
  std::int64_t* slots;  ///< [part][slot][padded width], zeros at first
  Coefficients table;

  void operator()(const Columns::Block& block) const {
    const std::int64_t width = columns.padded_width();
    across_columns<rows_together>(
        kernel, columns, block,
        Step{kernel, table, slots + block.part * slots_of<Tally> * width, width});
  }

 private:
  struct Step {
    Kernel kernel;
    Coefficients table;
    std::int64_t* slots;  ///< [slot][width]
    std::int64_t width;

    template <int kRows>
    HWY_INLINE void operator()(StepOfRows<kRows> rows, std::int64_t j, const float* weights,
                               Whole whole) const {
      if constexpr (kRows == 1) {
        add_row(rows.i, j, weights, whole);
      } else {
        add_vector<0>(rows, j, weights);
        add_vector<1>(rows, j, weights);
        if constexpr (vectors_of_terms<T> == 4) {
          add_vector<2>(rows, j, weights);
          add_vector<3>(rows, j, weights);
        }
      }
    }
    template <int kRows>
    HWY_INLINE void operator()(StepOfRows<kRows> rows, std::int64_t j, const float* weights,
                               First first) const {
      for (int r = 0; r < kRows; ++r) {
        add_row(rows.i + r * rows.apart, j, weights, first);
      }
    }

   private:
    template <class Extent>
    void add_row(std::int64_t i, std::int64_t j, const float* weights, Extent extent) const {
      const View k(table, j);
      kernel(i, k, weights, extent, [&](auto vector, Sum p, Sum q, Sum r) HWY_ATTR {
        const CountTag dw;
        Count v0 = hn::Zero(dw), v1 = v0, v2 = v0, v3 = v0, v4 = v0, v5 = v0;
        const Slots of_vector{v0, v1, v2, v3, v4, v5};
        Tally::add(of_vector, k, vector, p, q, r);
        merge(of_vector, j, decltype(vector)::value);
      });
    }

    // One vector of the terms of each row, so that its slots stay in registers. What the kernel
    // does for the others is not used, and left out by the compiler.
    template <int kVector, int kRows>
    HWY_INLINE void add_vector(StepOfRows<kRows> rows, std::int64_t j, const float* weights) const {
      const CountTag dw;
      const View k(table, j);
      Count v0 = hn::Zero(dw), v1 = v0, v2 = v0, v3 = v0, v4 = v0, v5 = v0;
      const Slots of_vector{v0, v1, v2, v3, v4, v5};
      for (int r = 0; r < kRows; ++r) {
        kernel(rows.i + r * rows.apart, k, weights, Whole{},
               [&](auto vector, Sum p, Sum q, Sum s) HWY_ATTR {
                 if constexpr (decltype(vector)::value == kVector) {
                   Tally::add(of_vector, k, vector, p, q, s);
                 }
               });
      }
      merge(of_vector, j, kVector);
    }

    HWY_INLINE void merge(const Slots& of_vector, std::int64_t j, std::int64_t vector) const {
      merge_into<Tally>(slots + j + vector * static_cast<std::int64_t>(hn::Lanes(CountTag())),
                        width, of_vector);
    }
  };
};

/// Takes the columns of each channel into its totals.
template <class T, class Tally>
void fold(const std::int64_t* slots, const Columns& columns, std::int64_t* totals) {
  const std::int64_t channels = columns.channels().size();
  const std::int64_t width = columns.padded_width();
  for (std::int64_t part = 0; part < columns.parts(); ++part) {
    const std::int64_t* of = slots + part * slots_of<Tally> * width;
    for (std::int64_t j = 0; j < columns.width();) {
      for (std::int64_t c = 0; c < channels; ++c) {
        for (std::int64_t s = 0; s < columns.extents().plane; ++s) {
          take_lane<Tally>(of + place_of<T>(j++), width, totals + c * total_words);
        }
      }
    }
  }
}

/// Tallies over channels of a tensor like x; Tally::write is told about each.
template <class Tally, class Kernel, class To>
void tally_channels(const ConstTensorView& x, const ChannelRange& channels, const Kernel& kernel,
                    Scratch& scratch, const To& to) {
  scratch.reset();
  const auto zeros = [&](std::int64_t words) {
    auto* memory = scratch.take<std::int64_t>(words);
    std::fill_n(memory, words, std::int64_t{0});
    return memory;
  };
  const Extents extents = extents_of(x);
  std::int64_t* totals = nullptr;
  if (extents.size() == 0) {
    totals = zeros(channels.size() * total_words);
  } else if (extents.has_long_planes()) {
    const Planes planes(extents, channels, Purpose::sums);
    totals = zeros(planes.parts() * channels.size() * total_words);
    run_blocks(planes, Order::forward, TallyByPlanes<Kernel, Tally>{kernel, planes, totals});
    for (std::int64_t i = channels.size(); i < planes.parts() * channels.size(); ++i) {
      merge_totals<Tally>(totals + i * total_words, totals + i % channels.size() * total_words);
    }
  } else {
    const Columns columns(extents, channels, Purpose::integers);
    totals = zeros(channels.size() * total_words);
    std::int64_t* slots = zeros(columns.parts() * slots_of<Tally> * columns.padded_width());
    run_blocks(columns, Order::forward,
               TallyByColumns<Kernel, Tally>{kernel, columns, slots, {columns, kernel, scratch}});
    fold<typename Kernel::Element, Tally>(slots, columns, totals);
  }
  for (std::int64_t c = channels.begin; c < channels.end; ++c) {
    Tally::write(totals + (c - channels.begin) * total_words, c, to);
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL
