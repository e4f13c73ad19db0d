// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/visit_dtype.hpp"

#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/normalized.hpp"

namespace syncbn::kernels::cuda {

template <class T, Extras kExtras>
struct NormalizedElements {
  using Element = T;
  using F = Lane<T>;
  using Coefficients = Normalization<F>;
  static constexpr bool has_residual = kExtras == Extras::all;
  struct Loaded {
    Words x;
    Words residual;
  };
  static constexpr int batch = has_residual ? 2 : 4;  ///< vectors of two tensors
  static constexpr int at_once = has_residual ? 2 : 3;

  const T* x;
  const T* residual;
  T* y;
  NormalizationArrays arrays;
  LowerSide<F> lower;

  SYNCBN_HOST_DEVICE Coefficients coefficients(std::int64_t c) const { return arrays.of<F>(c); }

  template <class There>
  SYNCBN_HOST_DEVICE Loaded load(const Step<vector_size<T>>& step, bool aligned,
                                 There there) const {
    return {load_vector(x, step, aligned, there), has_residual && residual != nullptr
                                                      ? load_vector(residual, step, aligned, there)
                                                      : Words{}};
  }

  template <class There, class CoefficientsOf>
  SYNCBN_HOST_DEVICE void write(const Step<vector_size<T>>& step, bool aligned,
                                const Loaded& loaded, const There& there, CoefficientsOf of) const {
    Words words{};
    SYNCBN_UNROLL
    for (int i = 0; i < vector_size<T>; ++i) {
      const Coefficients& k = of(i);
      F z = k.normalized(k.centered(to_lane(element<T>(loaded.x, i))));
      if (has_residual && residual != nullptr) {
        z += to_lane(element<T>(loaded.residual, i));
      }
      if constexpr (kExtras != Extras::none) {
        z = z < 0 ? lower(z) : z;
      }
      set_element(words, i, from_lane<T>(there.weight(i) == 0 ? F{0} : z));
    }
    store_vector(y, step, aligned, there, words);
  }
};

template <class Launcher>
void run_normalize(const Normalize& arguments, const Launcher& launch) {
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    visit_extras<T>(arguments.residual != nullptr, arguments.negative_slope, [&]<Extras kExtras>() {
      const NormalizedElements<T, kExtras> elements{
          .x = static_cast<const T*>(arguments.x.data()),
          .residual = static_cast<const T*>(arguments.residual),
          .y = static_cast<T*>(arguments.y),
          .arrays = {arguments.mean, arguments.scale, arguments.shift},
          .lower = {static_cast<Lane<T>>(arguments.negative_slope)}};
      const bool aligned =
          is_aligned(elements.x) && is_aligned(elements.residual) && is_aligned(elements.y);
      for_each_element(arguments.x, elements, arguments.weight, aligned, launch, "normalizing");
    });
  });
}

}  // namespace syncbn::kernels::cuda
