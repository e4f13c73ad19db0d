// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "app/command.hpp"

namespace syncbn::app {

namespace {

[[noreturn]] void refuse() {
  throw NotConfigured(
      "no training (built without oneDNN, whose convolutions it takes). Configure with "
      "-DSYNCBN_ONEDNN=ON.");
}

}  // namespace

std::unique_ptr<Command> make_train() {
  refuse();
}

std::unique_ptr<Command> make_study() {
  refuse();
}

}  // namespace syncbn::app
