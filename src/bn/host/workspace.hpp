// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "syncbn/phases.hpp"

#include "channels/exact_memory.hpp"
#include "channels/finalize.hpp"
#include "comm/group/operation.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::bn {

using kernels::ChannelRange;

class Pass;

/// JointParts holds the passes that are taken together, and what their message is made of.
struct JointParts {
  std::vector<Pass*> passes;
  const comm::Operation* operation = nullptr;  ///< what the passes are, whatever each is given
  std::string names, options;
  std::vector<double> values;
};

/// A Workspace is the memory of passes, and holds what each leaves for the next. Once it has the
/// size that the layer needs, no call allocates.
struct Workspace {
  kernels::Scratch scratch;
  std::vector<double> mean_dz, grad_slope;      ///< [C] coefficients of the kernels
  std::vector<double> sums;                     ///< [2C + 1] the group's, as in phases.hpp
  std::vector<double> own_sums;                 ///< [2C + 1] this rank's, in a backward
  std::array<std::vector<double>, 8> messages;  ///< of blocks under way
  std::vector<std::int64_t> unsettled;          ///< blocks whose sums are to be taken again
  std::vector<double> repeated;                 ///< a message of sums taken again
  JointParts joint;                             ///< of the first of layers taken together
  std::vector<double> statistics_memory;        ///< what `statistics` points to
  channels::StatisticsArrays statistics;        ///< of the forward in progress
  std::vector<std::uint8_t> in_double;          ///< [C] whether a forward sums a channel in double
  std::optional<channels::ExactMemory> exact;   ///< with Reproducibility::exact
  double count = 0;  ///< this rank's elements per channel, or its weights' sum
};

}  // namespace syncbn::bn
