// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "syncbn/state.hpp"

#include "trainer/model.hpp"
#include "trainer/sgd.hpp"

namespace syncbn::trainer {

/// Says whether batch norm's running statistics are the same on all ranks, or each rank's are kept.
enum class RunningStatistics : std::uint8_t { shared, per_rank };

/// Refers to the parts of a run that change as it goes on.
struct Trained {
  Model& model;
  Sgd& sgd;
  RunningStatistics running_statistics;
};

/// Returns the parameters under PyTorch's names ("conv1.weight"), and the optimizer's velocities as
/// "velocity.conv1.weight". They are the same on all ranks.
StateDict descent_state(const Trained& trained);

/// Returns what the layers keep besides the parameters: running statistics ("bn1.running_mean").
StateDict layer_state(const Trained& trained);

/// Loads the tensors of both. Throws FileError; what `trained` holds is then undefined.
void load_state(const Trained& trained, const StateDict& state);

/// Returns the values of all tensors, one after the other. Ranks can exchange only doubles, in
/// which integers up to 2^53 survive.
std::vector<double> flatten(const StateDict& state);

/// Returns the tensors of `like` with `values` in place of its own: i64 as i64, all others as f64.
StateDict unflatten(const StateDict& like, const double* values);

}  // namespace syncbn::trainer
