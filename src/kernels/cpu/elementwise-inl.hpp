// SPDX-License-Identifier: Apache-2.0

// Runs kernels that write an element for every element. This is what is done at each step of the
// walks in elementwise.cpp.

#if defined(SYNCBN_KERNELS_CPU_ELEMENTWISE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
#undef SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
#else
#define SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
#endif

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/coefficients-inl.hpp"
#include "kernels/cpu/elementwise.hpp"
#include "kernels/cpu/inputs-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// A StepWriter computes the step at index i of `from` and writes it at index i of `to`, past the
/// cache if `stream`; `weights` are those of the step, if it is `weighted`. Its own `in` and `out`
/// are at the tensors' first element. Channel is its OneChannel.
template <class K>
concept StepWriter = requires(const K& kernel, const typename K::In& from,
                              const typename K::Out& to, std::int64_t i,
                              const Broadcast<typename K::Channel>& k, const float* weights,
                              bool stream) {
  typename K::Element;
  { K::weighted } -> std::convertible_to<bool>;
  { kernel.in } -> std::convertible_to<typename K::In>;
  { kernel.out } -> std::convertible_to<typename K::Out>;
  kernel(from, to, i, k, weights, stream);
};

template <StepWriter Kernel>
struct ElementwiseSteps {
  using T = typename Kernel::Element;
  using Channel = typename Kernel::Channel;
  using In = typename Kernel::In;
  using Out = typename Kernel::Out;
  using Weights = WeightsOfRun<Kernel::weighted>;

  static void planes(const void* erased, const ElementRun& of, std::int64_t count, bool over,
                     const Coefficients& coefficients, std::int64_t c) {
    const Kernel kernel = *static_cast<const Kernel*>(erased);
    const Weights weights(of.weights, of.size, step_of<T>());
    const Out to = typed(of.to);
    for (std::int64_t p = 0; p < count; ++p) {
      const Broadcast<Channel> k(coefficients, c + p);
      const std::int64_t behind = (count - 1 - p) * of.size + of.behind;
      write_steps(
          kernel, kernel.in.from(of.i + p * of.size), to.from(p * of.size), of,
          over && behind >= step_of<T>(),
          [&](std::int64_t) HWY_ATTR -> const Broadcast<Channel>& { return k; },
          [&](std::int64_t s) HWY_ATTR { return weights.at(s); });
    }
  }

  static void columns(const void* erased, const ElementRun& of, const Coefficients& coefficients,
                      std::int64_t column) {
    const Kernel kernel = *static_cast<const Kernel*>(erased);
    const Coefficients table = coefficients;
    write_steps(
        kernel, kernel.in.from(of.i), typed(of.to), of, false,
        [&](std::int64_t s) HWY_ATTR { return OfColumns<Channel>(table, column + s); },
        [&](std::int64_t s) HWY_ATTR { return of.weights + (Kernel::weighted ? s : 0); });
  }

 private:
  static Out typed(const Destinations& to) {
    Out of;
    for (std::size_t k = 0; k < Out::count; ++k) {
      of.of[k] = reinterpret_cast<T*>(to[k]);
    }
    return of;
  }

  // Writes one run of the size of `of` with coefficients k(s) and weights(s) for the step at s.
  // `over` says that the last step may go beyond the run's end.
  template <class K, class WeightsAt>
  static HWY_INLINE void write_steps(const Kernel& kernel, const In& begin, const Out& destination,
                                     const ElementRun& of, bool over, K k, WeightsAt weights) {
    const std::int64_t step = step_of<T>();
    const std::int64_t size = of.size;
    const std::int64_t distance = of.distance;
    const std::int64_t rest = over ? 0 : size % step;
    Rest<T, In::count> copies;
    RestOfOutputs<T, Out::count> written;
    In from = begin;
    Out to = destination;
    bool stream = of.stream;
    std::int64_t end = size - rest;
    // The rest is done in a second turn by way of copies, so that only one loop is compiled.
    for (std::int64_t s = 0, first = 0; s < size; end = size) {
      for (; s < end; s += step) {
        from.prefetch(s - first + distance);
        kernel(from, to, s - first, k(s), weights(s), stream);
      }
      if (s < size) {
        first = s;
        from = copies.copy(begin.from(s), rest);
        to = written.instead_of(destination);
        stream = false;
      }
    }
    if (rest != 0) {
      written.copy(destination.from(size - rest), rest);
    }
  }
};

/// Copies whole lines.
inline void copy_lines(const std::byte* from, std::byte* to, std::size_t bytes, bool stream) {
  const hn::CappedTag<std::uint8_t, 256> d;
  const auto* source = reinterpret_cast<const std::uint8_t*>(from);
  auto* target = reinterpret_cast<std::uint8_t*>(to);
  for (std::size_t at = 0; at < bytes; at += hn::Lanes(d)) {
    put(d, hn::Load(d, source + at), target + at, stream);
  }
}

/// Runs `kernel` over all elements of a range of channels of a tensor with x's shape, type and
/// layout.
template <StepWriter Kernel>
void for_each_element(const ConstTensorView& x, const ChannelRange& channels, const Kernel& kernel,
                      const float* weight, const Coefficients& coefficients, const Run& run) {
  using Steps = ElementwiseSteps<Kernel>;
  using T = typename Kernel::Element;
  Destinations out{};
  bool in_place = false;
  for (std::size_t k = 0; k < Kernel::Out::count; ++k) {
    out[k] = reinterpret_cast<std::byte*>(kernel.out.of[k]);
    in_place = in_place || std::find(kernel.in.of.begin(), kernel.in.of.end(), kernel.out.of[k]) !=
                               kernel.in.of.end();
  }
  const std::size_t line = std::max<std::size_t>(64, hn::Lanes(hn::CappedTag<std::uint8_t, 256>()));
  const ElementwiseKernel steps{&kernel,
                                weight,
                                out,
                                in_place,
                                sizeof(T),
                                vector_order<T>(),
                                {line, copy_lines},
                                prefetch_distance<T>,
                                Steps::planes,
                                Steps::columns};
  cpu::for_each_element(x, channels, steps, coefficients, run);
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
