// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "core/visit_dtype.hpp"

#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/upstream.hpp"

namespace syncbn::kernels::cuda {

template <class T, Extras kExtras>
struct GradientElements {
  using Element = T;
  using F = Lane<T>;
  using Source = TypedUpstream<T, kExtras>;
  using Loaded = typename Source::Loaded;
  struct Coefficients {
    typename Source::Coefficients upstream;
    F scale;
    Pair<F> mean_dz;
    F grad_slope;
  };
  static constexpr int batch =
      kExtras == Extras::all ? 1 : 2;  ///< vectors of three tensors, or two
  static constexpr int at_once = kExtras == Extras::all ? 2 : 3;

  Source upstream;
  const double* scale;
  const double* mean_dz;
  const double* grad_slope;
  T* dx;
  T* dresidual;

  SYNCBN_HOST_DEVICE Coefficients coefficients(std::int64_t c) const {
    return {upstream.coefficients(c), static_cast<F>(scale[c]), Pair<F>(mean_dz[c]),
            static_cast<F>(grad_slope[c])};
  }

  template <class There>
  SYNCBN_HOST_DEVICE Loaded load(const Step<vector_size<T>>& step, bool aligned,
                                 There there) const {
    return upstream.load(step, aligned, there);
  }

  template <class There, class CoefficientsOf>
  SYNCBN_HOST_DEVICE void write(const Step<vector_size<T>>& step, bool aligned,
                                const Loaded& loaded, const There& there, CoefficientsOf of) const {
    Words of_x{};
    F dz[vector_size<T>];
    SYNCBN_UNROLL
    for (int i = 0; i < vector_size<T>; ++i) {
      const Coefficients& k = of(i);
      const F weight = there.weight(i);
      const auto element = upstream.element(loaded, i, k.upstream, there.weight(i));
      const F gradient = k.scale * rest(k, element, weight, there.weighted());
      set_element(of_x, i, from_lane<T>(weight == 0 ? F{0} : gradient));
      dz[i] = element.dz;
    }
    store_vector(dx, step, aligned, there, of_x);
    if (dresidual != nullptr) {
      Words of_residual{};
      SYNCBN_UNROLL
      for (int i = 0; i < vector_size<T>; ++i) {
        set_element(of_residual, i, from_lane<T>(dz[i]));
      }
      store_vector(dresidual, step, aligned, there, of_residual);
    }
  }

 private:
  /// Returns dz - w (mean_dz + (x - mean) * slope), rounded as on the host, to the same bits.
  SYNCBN_HOST_DEVICE static F rest(const Coefficients& k, const typename Source::Element& element,
                                   F weight, bool weighted) {
    const Pair<F>& mean = k.mean_dz;
    if (!weighted) {
      return std::fma(-element.centered, k.grad_slope, (element.dz - mean.hi) - mean.lo);
    }
    return std::fma(-weight, mean.hi + std::fma(element.centered, k.grad_slope, mean.lo),
                    element.dz);
  }
};

template <class Launcher>
void run_input_gradient(const InputGradient& arguments, const Launcher& launch) {
  const ConstTensorView& data = arguments.upstream.data;
  visit_dtype(data.dtype(), [&]<class T>() {
    visit_upstream<T>(
        arguments.upstream, [&]<Extras kExtras>(const TypedUpstream<T, kExtras>& upstream) {
          const GradientElements<T, kExtras> elements{
              .upstream = upstream,
              .scale = arguments.upstream.scale,
              .mean_dz = arguments.mean_dz,
              .grad_slope = arguments.grad_slope,
              .dx = static_cast<T*>(arguments.dx),
              .dresidual = static_cast<T*>(arguments.dresidual)};
          const bool aligned =
              upstream.is_aligned() && is_aligned(elements.dx) && is_aligned(elements.dresidual);
          for_each_element(data, elements, arguments.upstream.weight, aligned, launch,
                           "computing the input's gradient");
        });
  });
}

}  // namespace syncbn::kernels::cuda
