// SPDX-License-Identifier: Apache-2.0

// Adds up two sums per channel, in double; for 16-bit types first in short runs of float. This is
// what is done at each step of the walks in channel_sums.cpp.

#if defined(SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
#undef SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
#else
#define SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
#endif

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <hwy/highway.h>

#include "kernels/cpu/channel_sums.hpp"
#include "kernels/cpu/coefficients-inl.hpp"
#include "kernels/cpu/inputs-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// True if terms are of float.
template <class T>
inline constexpr bool float_terms = std::is_same_v<Term<T>, float>;

/// The most terms of float that are added one after the other in a lane. Two more additions in
/// float bring together at most four vectors; what follows is added in double.
inline constexpr std::int64_t terms_in_run = 8;

/// The vectors that a step's terms are added to: term_vectors for each of the two sums, as several
/// hide the latency of additions. They are references because on some machines vectors cannot be
/// members.
template <class V>
struct StepSums {
  V &a0, &b0, &a1, &b1, &a2, &b2, &a3, &b3;

  template <int kVector>
  HWY_INLINE void add(std::integral_constant<int, kVector>, V a, V b, V c) const {
    // The first sum gets a, the second b * c.
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

/// A SumsKernel adds the terms of the step at index i of `in` to `sums`, as far as `extent` says;
/// `weights` are those of the step, if it is `weighted`. Its own `in` is at the tensors' first
/// element. Channel is its OneChannel.
template <class K>
concept SumsKernel = requires(const K& kernel, const typename K::In& in, std::int64_t i,
                              const Broadcast<typename K::Channel>& k, const float* weights,
                              Whole extent,
                              const StepSums<hn::Vec<TermTag<typename K::Element>>>& sums) {
  { K::weighted } -> std::convertible_to<bool>;
  { kernel.in } -> std::convertible_to<typename K::In>;
  kernel(in, i, k, weights, extent, sums);
};

template <SumsKernel Kernel>
struct SumSteps {
  using T = typename Kernel::Element;
  using Channel = typename Kernel::Channel;
  using In = typename Kernel::In;

  static constexpr std::int64_t strands_together = In::count == 1 ? most_strands : 2;
  static constexpr std::int64_t rows_together = Kernel::weighted ? 1 : 2 * strands_together;
  static_assert(rows_together <= terms_in_run);

  static void planes(const void* erased, const Strands& all, const Coefficients& coefficients,
                     std::int64_t c, double* first, double* second) {
    const Kernel kernel = *static_cast<const Kernel*>(erased);
    const WeightsOfStrands<Kernel::weighted> weights(all, step_of<T>());
    Strands of = all;
    for (std::int64_t channel = 0; channel < all.channels; ++channel) {
      add_strands(kernel, of, Broadcast<Channel>(coefficients, c + channel), weights,
                  all.has_behind(channel, step_of<T>()), first, second);
      of.i += of.plane;
      first += hn::Lanes(SumTag());
      second += hn::Lanes(SumTag());
    }
  }

  static void columns(const void* erased, const PieceOfRows& of, const Coefficients& coefficients,
                      double* first, double* second) {
    const Kernel kernel = *static_cast<const Kernel*>(erased);
    const std::int64_t step = step_of<T>();
    const float* weights = of.weights;
    std::int64_t j = of.columns.begin;
    for (; j + step <= of.columns.end; j += step) {
      add_rows(kernel, of, OfColumns<Channel>(coefficients, j), j, weights, Whole{}, first + j,
               second + j);
      weights += Kernel::weighted ? step : 0;
    }
    if (j < of.columns.end) {
      add_rows(kernel, of, OfColumns<Channel>(coefficients, j), j, weights,
               First{of.columns.end - j}, first + j, second + j);
    }
  }

  static double sum_of_lanes(const double* vector) {
    const SumTag d;
    return hn::GetLane(hn::SumOfLanes(d, hn::LoadU(d, vector)));
  }

 private:
  // Adds up the strands of one channel. `more` says that a whole step can be read where each ends.
  static HWY_INLINE void add_strands(const Kernel& kernel, const Strands& of,
                                     const Broadcast<Channel>& k,
                                     const WeightsOfStrands<Kernel::weighted>& weights, bool more,
                                     double* first, double* second) {
    const TermTag<T> d;
    using V = hn::Vec<TermTag<T>>;
    const std::int64_t step = step_of<T>();
    const LastSteps<T, In::count> last(kernel.in, of, more);
    const std::int64_t whole = of.size - last.size();
    // Where a step fills only two of the four vectors, strands take turns between the two pairs. A
    // run of float is so short that a vector gets at most terms_in_run terms from all strands.
    const std::int64_t longest =
        float_terms<T> ? terms_in_run * 2 / strands_together * step : of.size;
    for (std::int64_t s = 0; s < of.size;) {
      const std::int64_t run_end = s + longest;
      V a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
      V b0 = a0, b1 = a0, b2 = a0, b3 = a0;
      const StepSums<V> even{a0, b0, a1, b1, a2, b2, a3, b3};
      const StepSums<V> odd{a2, b2, a3, b3, a2, b2, a3, b3};
      const auto add_step = [&](std::int64_t strand, auto extent, const StepSums<V>& to) HWY_ATTR {
        const std::int64_t i = of.i + strand * of.apart + s;
        kernel.in.prefetch(i + prefetch_distance<T>);
        if constexpr (std::is_same_v<decltype(extent), Whole>) {
          kernel(kernel.in, i, k, weights.at(strand, s), extent, to);
        } else {
          kernel(last.at(strand), 0, k, weights.at(strand, s), extent, to);
        }
      };
      const auto add_steps = [&](auto extent) HWY_ATTR {
        const StepSums<V>& other = term_vectors<T> == 2 ? odd : even;
        add_step(0, extent, even);
        if (of.count > 1) {
          add_step(1, extent, other);
          if constexpr (strands_together == 4) {
            add_step(2, extent, even);
            add_step(3, extent, other);
          }
        }
      };
      for (const std::int64_t end = std::min(whole, run_end); s < end; s += step) {
        add_steps(Whole{});
      }
      if (s == whole && s < of.size && s < run_end) {
        add_steps(First{last.size()});
        s = of.size;
      }
      add_to<0>(first, hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)));
      add_to<0>(second, hn::Add(hn::Add(b0, b1), hn::Add(b2, b3)));
    }
  }

  // Adds up a step of each row, at the columns from j on.
  template <class Extent>
  static HWY_INLINE void add_rows(const Kernel& kernel, const PieceOfRows& of,
                                  const OfColumns<Channel>& k, std::int64_t j, const float* weights,
                                  Extent extent, double* first, double* second) {
    const TermTag<T> d;
    using V = hn::Vec<TermTag<T>>;
    V a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
    V b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    const StepSums<V> to{a0, b0, a1, b1, a2, b2, a3, b3};
    for (std::int64_t r = 0; r < of.rows; ++r) {
      const std::int64_t i = of.i + r * of.apart + j;
      if constexpr (std::is_same_v<Extent, Whole>) {
        kernel.in.prefetch(i + prefetch_distance<T>);
        kernel(kernel.in, i, k, weights, extent, to);
      } else {
        Rest<T, In::count> rest;
        kernel(rest.copy(kernel.in.from(i), extent.count), 0, k, weights, extent, to);
      }
    }
    if constexpr (std::is_same_v<Term<T>, double>) {
      add_to<0>(first, a0);
      add_to<1>(first, a1);
      add_to<0>(second, b0);
      add_to<1>(second, b1);
      if constexpr (term_vectors<T> == 4) {
        add_to<2>(first, a2);
        add_to<3>(first, a3);
        add_to<2>(second, b2);
        add_to<3>(second, b3);
      }
    } else {
      widen(a0, a1, [&](auto at, Sum v) HWY_ATTR { add_to<decltype(at)::value>(first, v); });
      widen(b0, b1, [&](auto at, Sum v) HWY_ATTR { add_to<decltype(at)::value>(second, v); });
    }
  }

  template <int kVector, class V>
  static HWY_INLINE void add_to(double* sums, V v) {
    const SumTag d;
    double* place = sums + kVector * static_cast<std::int64_t>(hn::Lanes(d));
    if constexpr (std::is_same_v<hn::TFromV<V>, double>) {
      hn::StoreU(hn::Add(hn::LoadU(d, place), v), d, place);
    } else {
      auto sum = hn::Add(hn::LoadU(d, place), lower_half(v));
#if HWY_TARGET != HWY_SCALAR
      sum = hn::Add(sum, upper_half(v));
#endif
      hn::StoreU(sum, d, place);
    }
  }
};

/// Takes the sums first[c] and second[c] of a range of channels of a tensor with x's shape, type
/// and layout.
template <SumsKernel Kernel>
void sum_channels(const ConstTensorView& x, const ChannelRange& channels, const Kernel& kernel,
                  const float* weight, const Coefficients& coefficients, double* first,
                  double* second, Scratch& scratch) {
  using Steps = SumSteps<Kernel>;
  const SumKernel steps{&kernel,
                        weight,
                        vector_order<typename Kernel::Element>(),
                        static_cast<std::int64_t>(hn::Lanes(SumTag())),
                        Steps::strands_together,
                        Steps::rows_together,
                        Steps::planes,
                        Steps::columns,
                        Steps::sum_of_lanes};
  cpu::sum_channels(x, channels, steps, coefficients, first, second, scratch);
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
