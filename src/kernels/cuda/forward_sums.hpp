// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/visit_dtype.hpp"

#include "kernels/cuda/channel_sums.hpp"
#include "kernels/cuda/cuda.hpp"

namespace syncbn::kernels::cuda {

template <class T>
struct ForwardTerms {
  using Element = T;
  using Coefficients = Lane<T>;  ///< the pivot
  static constexpr int batch = 4;
  static constexpr int at_once = 3;

  const T* x;
  const double* pivot;

  SYNCBN_HOST_DEVICE Coefficients coefficients(std::int64_t c) const {
    return static_cast<Lane<T>>(pivot[c]);
  }

  template <class There>
  SYNCBN_HOST_DEVICE Words load(const Step<vector_size<T>>& step, bool aligned, There there) const {
    return load_vector(x, step, aligned, there);
  }

  template <class There, class Sums>
  SYNCBN_HOST_DEVICE void add(const Words& words, int i, Coefficients k, const There& there,
                              Sums& sums) const {
    const Lane<T> difference = to_lane(element<T>(words, i)) - k;
    if constexpr (There::all) {
      sums.add(i, difference, difference, difference);
    } else {
      const auto w = static_cast<Lane<T>>(there.weight(i));
      const Lane<T> present = w == 0 ? Lane<T>{0} : difference;
      sums.add(i, w * present, w * present, present);
    }
  }
};

template <class Launcher>
void run_forward_sums(const ForwardSums& arguments, void* workspace, const Launcher& launch) {
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    const auto* x = static_cast<const T*>(arguments.x.data());
    sum_channels(arguments.x, ForwardTerms<T>{x, arguments.pivot}, arguments.weight, is_aligned(x),
                 arguments.sums, workspace, launch);
  });
}

}  // namespace syncbn::kernels::cuda
