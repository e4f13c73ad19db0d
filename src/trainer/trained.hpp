// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "syncbn/state.hpp"

#include "trainer/model.hpp"
#include "trainer/sgd.hpp"

namespace syncbn::trainer {

/// Whether batch norm's running statistics are the same on all ranks, or each rank's are kept.
enum class RunningStatistics : std::uint8_t { shared, per_rank };

/// The parts of a run that change as it goes on.
struct Trained {
  Model& model;
  Sgd& sgd;
  RunningStatistics running_statistics;
};

/// Parameters under PyTorch's names ("conv1.weight"), the optimizer's as "velocity.conv1.weight":
/// the same on all ranks.
StateDict descent_state(const Trained& trained);

/// What the layers keep besides the parameters: running statistics ("bn1.running_mean").
StateDict layer_state(const Trained& trained);

/// From the tensors of both. Throws FileError; what `trained` holds is then undefined.
void load_state(const Trained& trained, const StateDict& state);

/// The values of all tensors, one after the other. Doubles are the only currency between ranks;
/// integers up to 2^53 survive in them.
std::vector<double> flatten(const StateDict& state);

/// The tensors of `like`, with `values` in place of its own, as f64.
StateDict unflatten(const StateDict& like, const double* values);

}  // namespace syncbn::trainer
