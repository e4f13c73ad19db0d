// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "app/command.hpp"

namespace syncbn::app {

int run_train(const Arguments&, const World&) {
  throw NotConfigured(
      "no training (built without oneDNN, whose convolutions it takes). Configure with "
      "-DSYNCBN_ONEDNN=ON.");
}

}  // namespace syncbn::app
