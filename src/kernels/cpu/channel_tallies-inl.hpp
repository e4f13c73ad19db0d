// SPDX-License-Identifier: Apache-2.0

// Takes the terms of a tensor's channels into tallies. This is what is done at each step of the
// walks in channel_tallies.cpp.

#if defined(SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL
#undef SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL
#else
#define SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL
#endif

#include <algorithm>
#include <concepts>
#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/channel_tallies.hpp"
#include "kernels/cpu/coefficients-inl.hpp"
#include "kernels/cpu/inputs-inl.hpp"
#include "kernels/cpu/tallies-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// An AddTerms stands for what a TalliesKernel calls, in its concept.
struct AddTerms {
  template <class At>
  void operator()(At at, Sum p, Sum q, Sum r) const;
};

/// A TalliesKernel is as a SumsKernel (channel_sums-inl.hpp), but does not add its terms up itself:
/// it calls add(at, p, q, r) for every vector of terms p and q * r, zeros for what does not count.
/// The coefficients of its terms, which are of double, begin with first_grid and second_grid.
template <class K>
concept TalliesKernel = requires(const K& kernel, const typename K::In& in, std::int64_t i,
                                 const Broadcast<typename K::Channel>& k, const float* weights,
                                 Whole extent, const AddTerms& add) {
  typename K::Element;
  { K::weighted } -> std::convertible_to<bool>;
  { kernel.in } -> std::convertible_to<typename K::In>;
  kernel(in, i, k, weights, extent, add);
};

template <ChannelTally Tally, TalliesKernel Kernel>
struct TallySteps {
  using T = typename Kernel::Element;
  using Channel = typename Kernel::Channel;
  using In = typename Kernel::In;

  static constexpr std::int64_t strands_together = Tally::is_rare   ? 1
                                                   : In::count == 1 ? most_strands
                                                                    : 2;
  static constexpr std::int64_t rows_together =
      Kernel::weighted || Tally::is_rare ? 1 : 2 * strands_together;

  // Rows that are taken together are gone through in several turns, each for some of the vectors
  // of a step's terms. More turns read more often, fewer leave too few registers to the slots.
  static constexpr int turns = std::is_same_v<T, float> && In::count == 1 ? vectors_of_terms<T> : 2;
  static constexpr int vectors_of_turn = vectors_of_terms<T> / turns;

  static void planes(const void* erased, const Strands& all, const Coefficients& coefficients,
                     std::int64_t c, std::int64_t* to, std::int64_t apart) {
    const Kernel kernel = *static_cast<const Kernel*>(erased);
    const WeightsOfStrands<Kernel::weighted> weights(all, step_of<T>());
    Strands of = all;
    for (std::int64_t channel = 0; channel < all.channels; ++channel) {
      add_strands(kernel, of, Broadcast<Channel>(coefficients, c + channel), weights,
                  all.has_behind(channel, step_of<T>()), to, apart);
      of.i += of.plane;
      to += lanes();
    }
  }

  static void columns(const void* erased, const PieceOfRows& of, const Coefficients& coefficients,
                      std::int64_t* slots, std::int64_t apart) {
    const Kernel kernel = *static_cast<const Kernel*>(erased);
    const std::int64_t step = step_of<T>();
    std::int64_t j = of.columns.begin;
    if constexpr (rows_together > 1) {
      for (; of.rows > 1 && j + step <= of.columns.end; j += step) {
        const OfColumns<Channel> k(coefficients, j);
        add_vectors<0>(kernel, of, k, j, slots, apart);
        add_vectors<1>(kernel, of, k, j, slots, apart);
        if constexpr (turns == 4) {
          add_vectors<2>(kernel, of, k, j, slots, apart);
          add_vectors<3>(kernel, of, k, j, slots, apart);
        }
      }
    }
    for (; j < of.columns.end; j += step) {
      const float* weights = of.weights + (Kernel::weighted ? j - of.columns.begin : 0);
      const First extent{std::min(step, of.columns.end - j)};
      for (std::int64_t r = 0; r < of.rows; ++r) {
        const In in = kernel.in.from(of.i + r * of.apart + j);
        Rest<T, In::count> rest;
        add_row(kernel, extent.count == step ? in : rest.copy(in, extent.count), weights, extent,
                OfColumns<Channel>(coefficients, j), slots + j, apart);
      }
    }
  }

 private:
  static std::int64_t lanes() { return static_cast<std::int64_t>(hn::Lanes(CountTag())); }

  // Tallies the strands of one channel. `more` says that a whole step can be read where each ends.
  static HWY_INLINE void add_strands(const Kernel& kernel, const Strands& of,
                                     const Broadcast<Channel>& k,
                                     const WeightsOfStrands<Kernel::weighted>& weights, bool more,
                                     std::int64_t* to, std::int64_t apart) {
    const std::int64_t step = step_of<T>();
    const CountTag dw;
    Count v0 = hn::Zero(dw), v1 = v0, v2 = v0, v3 = v0, v4 = v0, v5 = v0;
    const Slots slots{v0, v1, v2, v3, v4, v5};
    const auto add = [&](auto vector, Sum p, Sum q, Sum r)
                         HWY_ATTR { Tally::add(slots, k, vector, p, q, r); };
    const LastSteps<T, In::count> last(kernel.in, of, more);
    std::int64_t s = 0;
    // The number of strands is a constant so that the compiler lets them advance together.
    const auto add_steps = [&](auto count) HWY_ATTR {
      for (; s + step <= of.size; s += step) {
        for (std::int64_t strand = 0; strand < count; ++strand) {
          const std::int64_t i = of.i + strand * of.apart + s;
          kernel.in.prefetch(i + prefetch_distance<T>);
          kernel(kernel.in, i, k, weights.at(strand, s), Whole{}, add);
        }
      }
    };
    if (strands_together > 1 && of.count > 1) {
      add_steps(std::integral_constant<std::int64_t, strands_together>());
    } else {
      add_steps(std::integral_constant<std::int64_t, 1>());
    }
    for (std::int64_t strand = 0; s < of.size && strand < of.count; ++strand) {
      kernel.in.prefetch(of.i + strand * of.apart + s + prefetch_distance<T>);
      kernel(last.at(strand), 0, k, weights.at(strand, s), First{last.size()}, add);
    }
    merge_into<Tally>(to, apart, slots);
  }

  static HWY_INLINE void add_row(const Kernel& kernel, const In& in, const float* weights,
                                 First extent, const OfColumns<Channel>& k, std::int64_t* slots,
                                 std::int64_t apart) {
    kernel(in, 0, k, weights, extent, [&](auto vector, Sum p, Sum q, Sum r) HWY_ATTR {
      const CountTag dw;
      Count v0 = hn::Zero(dw), v1 = v0, v2 = v0, v3 = v0, v4 = v0, v5 = v0;
      const Slots of_vector{v0, v1, v2, v3, v4, v5};
      Tally::add(of_vector, k, vector, p, q, r);
      merge_into<Tally>(slots + decltype(vector)::value * lanes(), apart, of_vector);
    });
  }

  // Tallies the vectors of one turn of each row's step, at the columns from j on. What the kernel
  // does for the other vectors is unused, and the compiler drops it.
  template <int kTurn>
  static HWY_INLINE void add_vectors(const Kernel& kernel, const PieceOfRows& of,
                                     const OfColumns<Channel>& k, std::int64_t j,
                                     std::int64_t* slots, std::int64_t apart) {
    const CountTag dw;
    Count v0 = hn::Zero(dw), v1 = v0, v2 = v0, v3 = v0, v4 = v0, v5 = v0;
    Count w0 = v0, w1 = v0, w2 = v0, w3 = v0, w4 = v0, w5 = v0;
    const Slots first{v0, v1, v2, v3, v4, v5};
    const Slots second{w0, w1, w2, w3, w4, w5};
    for (std::int64_t r = 0; r < rows_together; ++r) {
      const std::int64_t i = of.i + r * of.apart + j;
      if constexpr (kTurn == 0) {
        kernel.in.prefetch(i + prefetch_distance<T>);
      }
      kernel(kernel.in, i, k, nullptr, Whole{}, [&](auto vector, Sum p, Sum q, Sum s) HWY_ATTR {
        constexpr int v = decltype(vector)::value;
        if constexpr (v / vectors_of_turn == kTurn) {
          Tally::add(v % vectors_of_turn == 0 ? first : second, k, vector, p, q, s);
        }
      });
    }
    slots += j + kTurn * vectors_of_turn * lanes();
    merge_into<Tally>(slots, apart, first);
    if constexpr (vectors_of_turn == 2) {
      merge_into<Tally>(slots + lanes(), apart, second);
    }
  }
};

/// Tallies a range of channels of a tensor with x's shape, type and layout, and calls Tally::write
/// with the totals of each.
template <ChannelTally Tally, TalliesKernel Kernel>
void tally_channels(const ConstTensorView& x, const ChannelRange& channels, const Kernel& kernel,
                    const float* weight, const Coefficients& coefficients, Scratch& scratch,
                    const channels::ExactChannels& to) {
  using Steps = TallySteps<Tally, Kernel>;
  using T = typename Kernel::Element;
  const TallyKernel steps{&kernel,
                          weight,
                          Tally::slots,
                          vector_order<T>(),
                          static_cast<std::int64_t>(hn::Lanes(CountTag())),
                          vectors_of_terms<T>,
                          Steps::strands_together,
                          Steps::rows_together,
                          Steps::planes,
                          Steps::columns,
                          take_vectors<Tally>};
  const std::int64_t* totals = cpu::tally_channels(x, channels, steps, coefficients, scratch);
  for (std::int64_t c = channels.begin; c < channels.end; ++c) {
    Tally::write(totals + (c - channels.begin) * total_words, c, to);
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_CHANNEL_TALLIES_INL
