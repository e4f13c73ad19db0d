// SPDX-License-Identifier: Apache-2.0
#include "app/last_resort.hpp"

#include <cstdlib>
#include <utility>

#include "app/print.hpp"

namespace syncbn::app {

LastResort::LastResort(std::chrono::milliseconds limit, std::string message)
    : thread_([this, limit, message = std::move(message) + '\n'](const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        gone_.wait_for(lock, stop, limit, [] { return false; });
        if (!stop.stop_requested()) {
          print_error(message);
          std::_Exit(EXIT_FAILURE);
        }
      }) {}

}  // namespace syncbn::app
