// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "app/scale/cells.hpp"

namespace syncbn::app::scale {

std::vector<Cell> step_cells(const Plan&, const World&, const std::vector<Group>&) {
  throw NotConfigured("--train cannot be had (this build has no oneDNN). Leave it out.");
}

}  // namespace syncbn::app::scale
