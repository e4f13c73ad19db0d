// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/visit_dtype.hpp"

#include "kernels/cuda/channel_sums.hpp"
#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/upstream.hpp"

namespace syncbn::kernels::cuda {

template <class T, Extras kExtras>
struct BackwardTerms {
  using Element = T;
  using Coefficients = typename TypedUpstream<T, kExtras>::Coefficients;
  using Loaded = typename TypedUpstream<T, kExtras>::Loaded;
  static constexpr int batch = 2;  ///< vectors of two tensors
  static constexpr int at_once = kExtras == Extras::all ? 2 : 3;

  TypedUpstream<T, kExtras> upstream;

  SYNCBN_HOST_DEVICE Coefficients coefficients(std::int64_t c) const {
    return upstream.coefficients(c);
  }

  template <class There>
  SYNCBN_HOST_DEVICE Loaded load(const Step<vector_size<T>>& step, bool aligned,
                                 There there) const {
    return upstream.load(step, aligned, there);
  }

  template <class There, class Sums>
  SYNCBN_HOST_DEVICE void add(const Loaded& loaded, int i, const Coefficients& k,
                              const There& there, Sums& sums) const {
    const auto element = upstream.element(loaded, i, k, there.weight(i));
    sums.add(i, element.dz, element.dz, element.centered);
  }
};

template <class Launcher>
void run_backward_sums(const BackwardSums& arguments, void* workspace, const Launcher& launch) {
  const ConstTensorView& data = arguments.upstream.data;
  visit_dtype(data.dtype(), [&]<class T>() {
    visit_upstream<T>(
        arguments.upstream, [&]<Extras kExtras>(const TypedUpstream<T, kExtras>& upstream) {
          sum_channels(data, BackwardTerms<T, kExtras>{upstream}, arguments.upstream.weight,
                       upstream.is_aligned(), arguments.sums, workspace, launch);
        });
  });
}

}  // namespace syncbn::kernels::cuda
