// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "syncbn/batch_norm.hpp"

#include "bn/options.hpp"
#include "channels/finalize.hpp"
#include "channels/floats.hpp"

namespace syncbn::bn {

class Place;

/// StateArrays point to what a layer keeps from step to step: [C] each, in the memory of its place.
struct StateArrays {
  channels::Floats weight, bias;                ///< gamma and beta, null without affine
  channels::Floats weight_grad, bias_grad;      ///< null without affine
  channels::Floats running_mean, running_var;   ///< null without track_running_stats
  std::int64_t* num_batches_tracked = nullptr;  ///< [1]; null without track_running_stats
  double* pivot = nullptr;                      ///< the next sums are about this
  double* start_mean = nullptr;                 ///< the running statistics' first values
  double* start_var = nullptr;

  /// Returns pointers that are all null without track_running_stats.
  channels::RunningStatistics<> running() const;
};

/// A Layer holds its options, and what it remembers from step to step wherever it is.
struct Layer {
  /// Makes a layer of `count` channels, which have been validated with the options. It has no
  /// arrays yet.
  Layer(std::int64_t count, const BatchNormOptions& wanted, Identity of);

  bool is_exact() const { return options.reproducibility == Reproducibility::exact; }
  /// Returns whether a backward of a forward that was so needs no other rank: the statistics are
  /// frozen, and the parameters' gradients are this rank's own.
  bool backward_is_local(bool frozen) const {
    return frozen && options.parameter_gradients == GradientScope::local;
  }

  /// Allocates arrays with their first values. Waits for the device.
  void allocate(const Place& place);
  /// Uses the caller's arrays, which have been validated, in place of those before.
  void use(const LayerMemory& memory);

  std::int64_t channels;
  BatchNormOptions options;
  Identity identity;
  std::string options_text;  ///< for the ranks to compare
  StateArrays state;
  StateArrays own;  ///< the layer's, of which those are in use that are not the caller's
  std::int64_t forwards = 0;
  bool knows_mean = false;  ///< the pivot follows from an earlier batch

 private:
  std::shared_ptr<void> memory_;
};

/// Throws InvalidArgument unless a layer can use the caller's memory.
void require_layer_memory(const LayerMemory& memory, std::int64_t channels,
                          const BatchNormOptions& options, Device device);

}  // namespace syncbn::bn
