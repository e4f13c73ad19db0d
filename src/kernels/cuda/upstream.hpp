// SPDX-License-Identifier: Apache-2.0
#pragma once

// A TypedUpstream finds dz: the gradient dy, taken back through the activation.

#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"

#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/elements.hpp"
#include "kernels/cuda/normalized.hpp"
#include "kernels/cuda/walk.hpp"

namespace syncbn::kernels::cuda {

/// A TypedUpstream is an Upstream with pointers of the elements' type. With Extras::all, which of
/// the ways to find dz is taken is looked at as the kernel runs. The others find x - mean from x,
/// and with Extras::activation also the side of the activation.
template <class T, Extras kExtras = Extras::all>
class TypedUpstream {
 public:
  using F = Lane<T>;

  /// These are the normalization's coefficients. Where x - mean is found from the output, they are
  /// those of the way back: `mean` is the shift and `scale` is 1 over the scale, or 0 where that is
  /// not finite.
  using Coefficients = Normalization<F>;
  /// A Loaded is what has been read of a vector.
  struct Loaded {
    Words data;
    Words dy;
    Words y;
  };
  struct Element {
    F centered;  ///< x - mean
    F dz;
  };

  explicit TypedUpstream(const Upstream& upstream)
      : arrays_{upstream.mean, upstream.scale, upstream.shift},
        data_(static_cast<const T*>(upstream.data.data())),
        dy_(static_cast<const T*>(upstream.dy)),
        y_(upstream.negative_slope == 1 ? nullptr : static_cast<const T*>(upstream.y)),
        lower_{static_cast<F>(upstream.negative_slope)},
        inverse_slope_(static_cast<F>(1 / upstream.negative_slope)),
        from_output_(upstream.source == Source::output) {}

  bool is_aligned() const {
    return cuda::is_aligned(data_) && cuda::is_aligned(dy_) && cuda::is_aligned(y_);
  }

  SYNCBN_HOST_DEVICE Coefficients coefficients(std::int64_t c) const {
    if (is_from_output()) {
      const auto shift = static_cast<F>(arrays_.shift[c]);
      const auto inverse = static_cast<F>(1 / arrays_.scale[c]);
      return {Pair<F>(static_cast<double>(shift)), std::isfinite(inverse) ? inverse : 0, 0};
    }
    return arrays_.of<F>(c);
  }

  template <class There>
  SYNCBN_HOST_DEVICE Loaded load(const Step<vector_size<T>>& step, bool aligned,
                                 There there) const {
    return {
        load_vector(data_, step, aligned, there), load_vector(dy_, step, aligned, there),
        kExtras == Extras::all && y_ != nullptr ? load_vector(y_, step, aligned, there) : Words{}};
  }

  /// Returns the data of a vector's i-th element, x or the output.
  SYNCBN_HOST_DEVICE static F data(const Loaded& loaded, int i) {
    return to_lane(cuda::element<T>(loaded.data, i));
  }
  SYNCBN_HOST_DEVICE bool is_from_output() const { return kExtras == Extras::all && from_output_; }

  /// Returns x - mean and dz of a vector's i-th element. Where the weight is 0, both are 0.
  SYNCBN_HOST_DEVICE Element element(const Loaded& loaded, int i, const Coefficients& k,
                                     float weight) const {
    const F data = TypedUpstream::data(loaded, i);
    const F dy = to_lane(cuda::element<T>(loaded.dy, i));
    if (weight == 0) {
      return {0, 0};
    }
    if constexpr (kExtras == Extras::none) {
      return {k.centered(data), dy};
    } else {
      F centered, side;
      if (is_from_output()) {
        const F z = data <= 0 ? data * inverse_slope_ : data;
        centered = k.centered(z) * k.scale;
        side = data;
      } else {
        centered = k.centered(data);
        side = kExtras == Extras::all && y_ != nullptr ? to_lane(cuda::element<T>(loaded.y, i))
                                                       : k.normalized(centered);
      }
      return {centered, side <= 0 ? lower_(dy) : dy};
    }
  }

 private:
  NormalizationArrays arrays_;
  const T* data_;
  const T* dy_;
  const T* y_;  ///< null: the side is found from data
  LowerSide<F> lower_;
  F inverse_slope_;
  bool from_output_;
};

/// Calls body(upstream) with the TypedUpstream that does no more than is needed.
template <class T, class Body>
void visit_upstream(const Upstream& upstream, Body body) {
  const bool has_activation = upstream.negative_slope != 1;
  const bool further =
      upstream.source == Source::output || (has_activation && upstream.y != nullptr);
  visit_extras<T>(further, upstream.negative_slope,
                  [&]<Extras kExtras>() { body(TypedUpstream<T, kExtras>(upstream)); });
}

}  // namespace syncbn::kernels::cuda
