// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "syncbn/communicator.hpp"

#include "app/scale/windows.hpp"

namespace syncbn::app::scale {

/// Exchanges are those of layers, as the ranks' flight records show them.
struct LayerExchanges {
  Arrivals arrivals;
  /// A pass that is cut into blocks of channels collects its messages later than they arrive, so
  /// that exits tell nothing.
  bool in_blocks = false;
};

/// Collective over the group. Returns when the ranks came to the last exchanges of layers (forwards
/// and backwards), up to a thousand, of those whose layers' names begin with `name`. None if there
/// was no such exchange. Times are good to a microsecond.
std::optional<LayerExchanges> layer_exchanges(const Communicator& group, const CommonClock& clock,
                                              const std::string& name);

}  // namespace syncbn::app::scale
