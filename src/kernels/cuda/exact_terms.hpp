// SPDX-License-Identifier: Apache-2.0
#pragma once

// These are the terms of exact sums, in double.

#include <cstdint>
#include <type_traits>

#include "core/visit_dtype.hpp"

#include "kernels/cuda/channel_tallies.hpp"
#include "kernels/cuda/exact.hpp"
#include "kernels/cuda/upstream.hpp"

namespace syncbn::kernels::cuda {

/// ExactForwardTerms are w (x - pivot) and w (x - pivot)^2.
template <class T>
struct ExactForwardTerms {
  using Element = T;
  using Coefficients = double;  ///< the pivot
  static constexpr int batch = 4;

  const T* x;
  const double* pivot;

  SYNCBN_HOST_DEVICE Coefficients coefficients(std::int64_t c) const { return pivot[c]; }

  template <class There>
  SYNCBN_HOST_DEVICE Words load(const Step<vector_size<T>>& step, bool aligned, There there) const {
    return load_vector(x, step, aligned, there);
  }

  template <class There, class Tally>
  SYNCBN_HOST_DEVICE void add(const Words& words, int i, Coefficients k, const There& there,
                              Tally tally) const {
    const double difference = static_cast<double>(to_lane(element<T>(words, i))) - k;
    if constexpr (There::all) {
      tally(difference, difference, difference);
    } else {
      const auto w = static_cast<double>(there.weight(i));
      if (w != 0) {
        tally(w * difference, w * difference, difference);
      }
    }
  }
};

/// ExactBackwardTerms are dz and dz (x - mean).
template <class T>
struct ExactBackwardTerms {
  using Element = T;
  using Loaded = typename TypedUpstream<T>::Loaded;
  struct Coefficients {
    typename TypedUpstream<T>::Coefficients upstream;
    double mean;
  };
  static constexpr int batch = 2;  ///< vectors of two tensors

  TypedUpstream<T> upstream;
  const double* mean;

  SYNCBN_HOST_DEVICE Coefficients coefficients(std::int64_t c) const {
    return {upstream.coefficients(c), mean[c]};
  }

  template <class There>
  SYNCBN_HOST_DEVICE Loaded load(const Step<vector_size<T>>& step, bool aligned,
                                 There there) const {
    return upstream.load(step, aligned, there);
  }

  template <class There, class Tally>
  SYNCBN_HOST_DEVICE void add(const Loaded& loaded, int i, const Coefficients& k,
                              const There& there, Tally tally) const {
    const float weight = there.weight(i);
    if (!There::all && weight == 0) {
      return;
    }
    const auto element = upstream.element(loaded, i, k.upstream, weight);
    // x - mean is taken once more, in double. Where the data is the output, there is no x.
    const double centered = upstream.is_from_output()
                                ? static_cast<double>(element.centered)
                                : static_cast<double>(upstream.data(loaded, i)) - k.mean;
    const auto dz = static_cast<double>(element.dz);
    tally(dz, dz, centered);
  }
};

/// Names the tally for elements of type T, given the number of a thread's sets.
template <class T, channels::SumsOf kOf>
struct FixedPointTallies {
  template <int kSets>
  using Of = FixedPointTally<T, kOf, kSets>;
};

/// Calls body<T>(terms, aligned).
template <class Body>
void visit_terms(const ForwardSums& arguments, Body body) {
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    const auto* x = static_cast<const T*>(arguments.x.data());
    body.template operator()<T>(ExactForwardTerms<T>{x, arguments.pivot}, is_aligned(x));
  });
}
template <class Body>
void visit_terms(const BackwardSums& arguments, Body body) {
  visit_dtype(arguments.upstream.data.dtype(), [&]<class T>() {
    const TypedUpstream<T> upstream(arguments.upstream);
    body.template operator()<T>(ExactBackwardTerms<T>{upstream, arguments.upstream.mean},
                                upstream.is_aligned());
  });
}

template <class Launcher>
void run_tally(const ForwardSums& arguments, const channels::ExactChannels& to,
               const Launcher& launch) {
  visit_terms(arguments, [&]<class T>(const auto& terms, bool aligned) {
    const auto as = [&]<channels::SumsOf kOf>() {
      tally_channels<FixedPointTallies<T, kOf>::template Of>(arguments.x, terms, arguments.weight,
                                                             aligned, to, to.tallies, launch,
                                                             "summing channels in fixed point");
    };
    if (arguments.weight != nullptr) {
      as.template operator()<channels::SumsOf::weighted_differences>();
    } else {
      as.template operator()<channels::SumsOf::differences>();
    }
  });
}

template <class Launcher>
void run_tally(const BackwardSums& arguments, const channels::ExactChannels& to,
               const Launcher& launch) {
  visit_terms(arguments, [&]<class T>(const auto& terms, bool aligned) {
    tally_channels<FixedPointTallies<T, channels::SumsOf::gradients>::template Of>(
        arguments.upstream.data, terms, arguments.upstream.weight, aligned, to, to.tallies, launch,
        "summing gradients in fixed point");
  });
}

template <class Launcher>
void run_tally_magnitudes(const ForwardSums& arguments, const channels::ExactChannels& to,
                          const Launcher& launch) {
  visit_terms(arguments, [&]<class T>(const auto& terms, bool aligned) {
    tally_channels<MagnitudeTally>(arguments.x, terms, arguments.weight, aligned, to, to.magnitudes,
                                   launch, "finding the largest differences");
  });
}

template <class Launcher>
void run_tally_magnitudes(const BackwardSums& arguments, const channels::ExactChannels& to,
                          const Launcher& launch) {
  visit_terms(arguments, [&]<class T>(const auto& terms, bool aligned) {
    tally_channels<MagnitudeTally>(arguments.upstream.data, terms, arguments.upstream.weight,
                                   aligned, to, to.magnitudes, launch,
                                   "finding the largest gradients");
  });
}

}  // namespace syncbn::kernels::cuda
