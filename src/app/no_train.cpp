// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "app/command.hpp"

namespace syncbn::app {

std::unique_ptr<Command> make_train() {
  throw NotConfigured(
      "no training (built without oneDNN, whose convolutions it takes). Configure with "
      "-DSYNCBN_ONEDNN=ON.");
}

}  // namespace syncbn::app
