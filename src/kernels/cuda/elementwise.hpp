// SPDX-License-Identifier: Apache-2.0
#pragma once

// An elementwise kernel writes an element for every element that it reads.

#include <algorithm>
#include <cstdint>

#include "core/host_device.hpp"

#include "kernels/cuda/channel_coefficients.hpp"
#include "kernels/cuda/elements.hpp"
#include "kernels/cuda/walk.hpp"

namespace syncbn::kernels::cuda {

/// A VectorWriter writes what follows from a vector that it has read; coefficients_of(i) are those
/// of the vector's i-th element.
template <class W>
concept VectorWriter = VectorReader<W> &&
    requires(const W& writer, const Step<vector_size<typename W::Element>>& step,
             const Loaded<W>& loaded, const typename W::Coefficients& (*coefficients_of)(int)) {
  writer.write(step, true, loaded, AllThere{}, coefficients_of);
};

/// This kernel loads and writes every vector.
///
/// No block waits for another, and each thread reads a vector before it writes it, so outputs may
/// be inputs.
template <VectorWriter Of, TensorWalk Walk>
struct Elementwise {
  static constexpr int threads = block_threads;
  static constexpr int at_once = std::min(Of::at_once, Walk::at_once);
  struct Shared {
    ChannelCoefficients<Of, Walk> coefficients;
  };

  /// Loading ahead makes these kernels faster on an H200, but for the one that reads one tensor by
  /// Columns, whose threads have many coefficients: it takes 1 to 1.5 us longer then.
  static constexpr bool ahead = Walk::sets == 1 || Of::batch < 4;

  Of of;
  Walk walk;
  const float* weight;
  bool aligned;

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    constexpr int sets = Walk::sets;
    shared.coefficients.prepare(block, of, walk);
    block.every_thread([&](int thread) {
      typename Of::Coefficients k[sets];
      shared.coefficients.get(of, walk, block.index(), thread, k);
      const auto coefficients_of = [&](int i) -> const typename Of::Coefficients& {
        return k[sets == 1 ? 0 : i];
      };
      for_each_vector<Of::batch, ahead>(
          walk, block.index(), thread, aligned, weight,
          [&](const auto& step, const auto& there) { return of.load(step, aligned, there); },
          [&](const auto& step, const auto& loaded, const auto& there) {
            of.write(step, aligned, loaded, there, coefficients_of);
          },
          [] {});
    });
  }
};

template <VectorWriter Of, class Launcher>
void for_each_element(const ConstTensorView& x, const Of& of, const float* weight, bool aligned,
                      const Launcher& launch, const char* doing) {
  if (x.shape().size() == 0) {
    return;
  }
  visit_walk<vector_size<typename Of::Element>>(
      extents_of(x.shape(), x.layout()), Purpose::elements, [&]<class Walk>(const Walk& walk) {
        launch(walk.blocks(), Elementwise<Of, Walk>{of, walk, weight, aligned && walk.even()},
               doing);
      });
}

}  // namespace syncbn::kernels::cuda
