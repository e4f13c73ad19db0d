// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "syncbn/communicator.hpp"
#include "syncbn/export.h"
#include "syncbn/phases.hpp"
#include "syncbn/tensor_view.hpp"

namespace syncbn {

/// PopulationStatistics add up the mean and variance of a layer's input over many batches and all
/// ranks, to replace running averages, which lag behind the weights and weigh the last batches most
/// ("PreciseBN": Wu & Johnson 2021, Rethinking "Batch" in BatchNorm, section 3.2).
///
///   std::vector<PopulationStatistics> population;      // one for each layer
///   for each batch, with the weights as they are:
///     layer.forward(x, y, record);                      // normalizes with the batch's statistics
///     population.add(x);
///   layer.set_running_statistics(population.finish(group));
///
/// The result is that of one batch of all elements, each weighing the same: the variance includes
/// that between the batches' means. Moments are merged in double by Chan, Golub & LeVeque's formula
/// (1979), so it does not depend, up to rounding, on how the elements are split into batches and
/// over ranks, which may have any number of batches, also none. Batches are not kept: an object
/// holds arrays of 2C doubles, and of 8C + 1 from the first batch on.
class SYNCBN_API PopulationStatistics {
 public:
  struct Impl;  ///< defined inside the library

  /// Local. Throws InvalidArgument for less than one channel, or more than Shape::most_channels.
  explicit PopulationStatistics(std::int64_t channels);
  /// One that was moved from may only be destroyed or assigned to.
  PopulationStatistics(PopulationStatistics&&) noexcept;
  PopulationStatistics& operator=(PopulationStatistics&&) noexcept;
  ~PopulationStatistics();

  std::int64_t channels() const;

  /// Local. Adds this rank's x, of any float type and either layout, in one read; two where its
  /// mean is far from that of the elements before. Position weights are those of forward_sums. Call
  /// it before a forward_in_place, which overwrites x.
  ///
  /// Throws InvalidArgument for another number of channels, and NotConfigured for a tensor on a
  /// CUDA device; nothing is added then.
  void add(ConstTensorView x, PositionWeights position_weights = {});

  /// Collective over `group`, which is any that has each element once: usually all ranks, also if
  /// the layer's own group is a part of them. Returns the statistics of all elements that its ranks
  /// have added, the same bits on each; invstd is that for eps = 0. The object stays as it is, and
  /// can add more. Takes two all-reduces, of C + 1 and 2C + 1 doubles. Throws CommError as
  /// Communicator::all_reduce does, also if ranks have different numbers of channels.
  ///
  /// Without any element the count, means and variances are 0. A channel with a NaN or an infinity
  /// has a NaN.
  Statistics finish(const Communicator& group) const;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace syncbn
