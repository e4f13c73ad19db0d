// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/dtype.hpp"
#include "syncbn/tensor_view.hpp"

#include "app/bench/shapes.hpp"
#include "app/scale/groups.hpp"
#include "app/scale/windows.hpp"

namespace syncbn::app::scale {

/// A Budget says how long the whole run may take: minutes, or as long as precise medians need.
enum class Budget : std::uint8_t { quick, full };

/// A Kind says what a cell measures.
enum class Kind : std::uint8_t { exchange, ping, layer, step, noise };

/// Plan holds what the user asks for.
struct Plan {
  Budget budget = Budget::quick;
  std::vector<Kind> kinds = {Kind::exchange, Kind::ping, Kind::layer, Kind::noise};
  std::string exchange = "builtin";  ///< who sums for the library: builtin, or mpi
  /// longest time of a cell; twice that of a layer, and four times of training steps
  double cell_seconds = 1;
  double seconds = 180;  ///< for the whole run; cells are cut short for it
  std::vector<bench::LayerShape> shapes;
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  std::filesystem::path data;    ///< directory of the training steps' data set
  std::int64_t batch_size = 64;  ///< samples of a step: of all ranks, or of each
  std::uint64_t seed = 1;
};

/// Found is what measuring a cell left.
struct Found {
  Json entries = Json::array();   ///< for scale.json; those of the rank that has them
  Json samples = Json::object();  ///< all single measurements
  int at = 0;                     ///< the rank of the world that has both
};

/// A Cell is a part of the run that is measured at a time, and lost if the run is killed meanwhile.
struct Cell {
  Kind kind;
  std::string name;  ///< for its file: letters, digits and dashes
  std::string text;  ///< for the user: "exchange of 130 doubles over 4 ranks"
  /// Is called on every rank, in the same order, with the same rule; ranks that do not take part
  /// return at once.
  std::function<Found(const StoppingRule&)> measure;
};

/// Returns how long measuring the cell may take, unless time is short. [s]
double most_seconds(const Plan& plan, Kind kind);

/// Returns when a cell of this kind has been measured often enough, if it may take `seconds`. The
/// more `ranks` there are, the fewer repetitions of each are kept: a million in all.
StoppingRule stopping_rule(const Plan& plan, Kind kind, double seconds, int ranks);

/// Collective over the world (all of these). Each returns the cells of one kind.
std::vector<Cell> exchange_cells(const Plan& plan, const std::vector<Group>& groups,
                                 Deadlines deadlines);
std::vector<Cell> ping_cells(const Plan& plan, const World& world,
                             const std::map<std::string, std::vector<int>>& hosts,
                             Deadlines deadlines);
std::vector<Cell> layer_cells(const Plan& plan, const std::vector<Group>& groups);
/// Loads the data set. Throws FileError if it cannot, and NotConfigured in a build without oneDNN.
std::vector<Cell> step_cells(const Plan& plan, const World& world,
                             const std::vector<Group>& groups);
/// The group is that of the most ranks.
std::vector<Cell> noise_cells(const Plan& plan, const std::vector<Group>& groups);

}  // namespace syncbn::app::scale
