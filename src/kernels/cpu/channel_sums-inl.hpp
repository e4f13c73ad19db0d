// SPDX-License-Identifier: Apache-2.0

// Two sums per channel, in double; of 16-bit types in short runs of float first.

#if defined(SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
#undef SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
#else
#define SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/across_columns-inl.hpp"
#include "kernels/cpu/coefficients-inl.hpp"
#include "kernels/cpu/partial_sums.hpp"
#include "kernels/cpu/partition.hpp"
#include "kernels/cpu/plane_by_plane-inl.hpp"
#include "kernels/cpu/run_blocks.hpp"
#include "kernels/cpu/weights-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

// A Kernel has:
//   Element                         the tensors' element type
//   Channel                         its Coefficients
//   inputs                          how many tensors it reads
//   weighted                        whether it wants weights
//   weight                          if so, those of the positions
//   coefficients(c) -> Channel      those of channel c
//   prefetch(i)                     of a step from index i on
//   (i, k, weights, extent, sums)   adds the terms of what there is of a step from index i on;
//                                   `weights` are those of the step

/// Whether terms are of float. They leave time to ask for memory in advance; terms of double do
/// not.
template <class T>
inline constexpr bool float_terms = std::is_same_v<Term<T>, float>;

/// Most terms of float that are added one after the other in a lane. Then two additions bring
/// together four vectors at most, and double takes over.
inline constexpr std::int64_t terms_in_run = 8;

/// The vectors that a step's terms are added to, of either kind as many as term_vectors says:
/// several, which hides the latency of additions. By reference, as there are machines whose vectors
/// cannot be members.
template <class V>
struct StepSums {
  V &a0, &b0, &a1, &b1, &a2, &b2, &a3, &b3;

  template <int kVector>
  HWY_INLINE void add(std::integral_constant<int, kVector>, V a, V b, V c) const {
    // a and b * c
    if constexpr (kVector == 0) {
      a0 = hn::Add(a0, a);
      b0 = hn::MulAdd(b, c, b0);
    } else if constexpr (kVector == 1) {
      a1 = hn::Add(a1, a);
      b1 = hn::MulAdd(b, c, b1);
    } else if constexpr (kVector == 2) {
      a2 = hn::Add(a2, a);
      b2 = hn::MulAdd(b, c, b2);
    } else {
      a3 = hn::Add(a3, a);
      b3 = hn::MulAdd(b, c, b3);
    }
  }
};

inline std::int64_t sum_lanes() {
  return static_cast<std::int64_t>(hn::Lanes(SumTag()));
}

/// Each channel has a vector for either sum, which is added up across its lanes when the block is
/// done.
template <class Kernel>
struct SumsByPlanes {
  using T = typename Kernel::Element;

  static constexpr int strands = 4 / Kernel::inputs;

  const Kernel& kernel;
  const Planes& planes;
  const PartialSums& sums;

  void operator()(const Planes::Block& block) const {
    HWY_ALIGN double first[Planes::max_channels * hn::MaxLanes(SumTag())];
    HWY_ALIGN double second[Planes::max_channels * hn::MaxLanes(SumTag())];
    std::fill_n(first, block.channels.size() * sum_lanes(), 0.0);
    std::fill_n(second, block.channels.size() * sum_lanes(), 0.0);
    plane_by_plane<strands>(kernel, planes, block, Run{kernel, first, second});
    const std::int64_t at = block.channels.begin - planes.channels().begin;
    add_lanes(first, block.channels.size(), sums.first(block.part) + at);
    add_lanes(second, block.channels.size(), sums.second(block.part) + at);
  }

 private:
  struct Run {
    Kernel kernel;
    double* first;   ///< [channel][lane]
    double* second;  ///< likewise

    template <int kStrands, class K>
    HWY_INLINE void operator()(const Strands<kStrands>& of, const K& k, std::int64_t c) const {
      const TermTag<T> d;
      using V = hn::Vec<TermTag<T>>;
      const std::int64_t step = step_of<T>();
      const std::int64_t whole = of.size / step * step;
      // Steps add their terms to two sets of sums by turns where one step does not fill them all:
      // of float, each gets terms_in_run from a run of as many strands as there can be.
      const std::int64_t longest = float_terms<T> ? terms_in_run * 2 / strands * step : of.size;
      for (std::int64_t s = 0; s < of.size;) {
        const std::int64_t run_end = s + longest;
        V a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
        V b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        const StepSums<V> even{a0, b0, a1, b1, a2, b2, a3, b3};
        const StepSums<V> odd{a2, b2, a3, b3, a2, b2, a3, b3};
        const auto add_steps = [&](std::int64_t at, auto extent) HWY_ATTR {
          const auto add_step = [&](std::int64_t strand, const StepSums<V>& to) HWY_ATTR {
            const std::int64_t i = of.i + strand * of.apart + at;
            if constexpr (float_terms<T>) {
              kernel.prefetch(i + prefetch_distance<T>);
            }
            kernel(i, k, of.weights + (Kernel::weighted ? strand * of.weights_apart + at : 0),
                   extent, to);
          };
          const StepSums<V>& other = term_vectors<T> == 2 ? odd : even;
          add_step(0, even);
          if constexpr (kStrands >= 2) {
            add_step(1, other);
          }
          if constexpr (kStrands >= 4) {
            add_step(2, even);
            add_step(3, other);
          }
        };
        for (const std::int64_t end = std::min(whole, run_end); s < end; s += step) {
          add_steps(s, Whole{});
        }
        if (s == whole && s < of.size && s < run_end) {
          if (of.more) {
            add_steps(s, Over{of.size - s});
          } else {
            add_steps(s, First{of.size - s});
          }
          s = of.size;
        }
        add_to(first + c * sum_lanes(), hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)));
        add_to(second + c * sum_lanes(), hn::Add(hn::Add(b0, b1), hn::Add(b2, b3)));
      }
    }

    template <class V>
    static HWY_INLINE void add_to(double* sums, V v) {
      const SumTag d;
      if constexpr (std::is_same_v<hn::TFromV<V>, double>) {
        hn::Store(hn::Add(hn::Load(d, sums), v), d, sums);
      } else {
        auto sum = hn::Add(hn::Load(d, sums), lower_half(v));
#if HWY_TARGET != HWY_SCALAR
        sum = hn::Add(sum, upper_half(v));
#endif
        hn::Store(sum, d, sums);
      }
    }
  };

  static void add_lanes(const double* vectors, std::int64_t channels, double* to) {
    const SumTag d;
    for (std::int64_t c = 0; c < channels; ++c) {
      to[c] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, vectors)));
      vectors += sum_lanes();
    }
  }
};

/// Each column has its own sums, in the order of place_of.
template <class Kernel>
struct SumsByColumns {
  using T = typename Kernel::Element;
  using Coefficients = Table<T, typename Kernel::Channel>;
  using View = typename Coefficients::View;

  static constexpr int rows_together = Kernel::weighted ? 1 : 8 / Kernel::inputs;
  static_assert(rows_together <= terms_in_run);

  const Kernel& kernel;
  const Columns& columns;
  const PartialSums& sums;
  Coefficients table;

  void operator()(const Columns::Block& block) const {
    across_columns<rows_together>(
        kernel, columns, block,
        Step{kernel, table, sums.first(block.part), sums.second(block.part)});
  }

 private:
  struct Step {
    Kernel kernel;
    Coefficients table;
    double* first;
    double* second;

    template <int kRows, class Extent>
    HWY_INLINE void operator()(StepOfRows<kRows> rows, std::int64_t j, const float* weights,
                               Extent extent) const {
      const TermTag<T> d;
      using V = hn::Vec<TermTag<T>>;
      const View k(table, j);
      V a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
      V b0 = a0, b1 = a0, b2 = a0, b3 = a0;
      const StepSums<V> to{a0, b0, a1, b1, a2, b2, a3, b3};
#pragma GCC unroll 1  // unrolled it is up to 15 % slower (f32, AVX2)
      for (int r = 0; r < kRows; ++r) {
        kernel(rows.i + r * rows.apart, k, weights, extent, to);
      }
      if constexpr (term_vectors<T> == 4) {
        add_to<0>(first + j, a0);
        add_to<1>(first + j, a1);
        add_to<2>(first + j, a2);
        add_to<3>(first + j, a3);
        add_to<0>(second + j, b0);
        add_to<1>(second + j, b1);
        add_to<2>(second + j, b2);
        add_to<3>(second + j, b3);
      } else {
        widen(a0, a1, [&](auto at, Sum v) HWY_ATTR { add_to<decltype(at)::value>(first + j, v); });
        widen(b0, b1, [&](auto at, Sum v) HWY_ATTR { add_to<decltype(at)::value>(second + j, v); });
      }
    }

    template <int kVector>
    static HWY_INLINE void add_to(double* sums, Sum v) {
      const SumTag d;
      double* place = sums + kVector * sum_lanes();
      hn::StoreU(hn::Add(hn::LoadU(d, place), v), d, place);
    }
  };
};

/// Adds up the columns of each channel in the order of their numbers.
template <class T>
void fold(const double* sums, const Columns& columns, double* totals) {
  const ChannelRange& channels = columns.channels();
  std::fill(totals + channels.begin, totals + channels.end, 0.0);
  for (std::int64_t j = 0; j < columns.width();) {
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      for (std::int64_t s = 0; s < columns.extents().plane; ++s) {
        totals[c] += sums[place_of<T>(j++)];
      }
    }
  }
}

/// Sums over channels of a tensor like x: first[c] and second[c] are written.
template <class Kernel>
void sum_channels(const ConstTensorView& x, const ChannelRange& channels, const Kernel& kernel,
                  double* first, double* second, Scratch& scratch) {
  scratch.reset();
  const Extents extents = extents_of(x);
  if (extents.size() == 0) {
    std::fill(first + channels.begin, first + channels.end, 0.0);
    std::fill(second + channels.begin, second + channels.end, 0.0);
  } else if (extents.has_long_planes()) {
    const Planes planes(extents, channels, Purpose::sums);
    const PartialSums sums(planes.parts(), channels.size(), scratch);
    run_blocks(planes, Order::forward, SumsByPlanes<Kernel>{kernel, planes, sums});
    sums.combine();
    std::copy_n(sums.first(0), channels.size(), first + channels.begin);
    std::copy_n(sums.second(0), channels.size(), second + channels.begin);
  } else {
    using Element = typename Kernel::Element;
    const Columns columns(extents, channels, Purpose::sums);
    const PartialSums sums(columns.parts(), columns.padded_width(), scratch);
    run_blocks(columns, Order::forward,
               SumsByColumns<Kernel>{kernel, columns, sums, {columns, kernel, scratch}});
    sums.combine();
    fold<Element>(sums.first(0), columns, first);
    fold<Element>(sums.second(0), columns, second);
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
