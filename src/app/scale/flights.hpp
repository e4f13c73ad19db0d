// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "syncbn/communicator.hpp"

#include "app/scale/windows.hpp"

namespace syncbn::app::scale {

/// LayerExchanges hold when ranks came to the exchanges of layers, by their flight records.
struct LayerExchanges {
  Arrivals arrivals;
  /// A pass that is cut into blocks of channels collects its messages later than they arrive, so
  /// that exits tell nothing.
  bool in_blocks = false;
};

/// Collective over the group. Returns when the ranks came to the exchanges of layers, forwards and
/// backwards, that followed the group's exchange number `after`: the last thousand at most. None if
/// there was no such exchange. Times are good to a microsecond on one host; between hosts to the
/// clock's uncertainty, and what the clocks have drifted apart since.
std::optional<LayerExchanges> layer_exchanges(const Communicator& group, const CommonClock& clock,
                                              std::int64_t after);

}  // namespace syncbn::app::scale
