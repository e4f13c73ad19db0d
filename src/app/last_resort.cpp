// SPDX-License-Identifier: Apache-2.0
#include "app/last_resort.hpp"

#include <cstdlib>
#include <utility>

#include "app/print.hpp"

namespace syncbn::app {

LastResort::LastResort(std::chrono::milliseconds limit, std::string message)
    : LastResort(limit, std::move(message), limit, "") {}

LastResort::LastResort(std::chrono::milliseconds limit, std::string message,
                       std::chrono::milliseconds first, std::string warning)
    : thread_([this, limit, message = std::move(message), first,
               warning = std::move(warning)](const std::stop_token& stop) {
        const auto begin = std::chrono::steady_clock::now();
        std::unique_lock lock(mutex_);
        if (first < limit) {
          gone_.wait_for(lock, stop, first, [] { return false; });
          if (!stop.stop_requested()) {
            print_error(warning + '\n');
          }
        }
        gone_.wait_until(lock, stop, begin + limit, [] { return false; });
        if (!stop.stop_requested()) {
          print_error(message + '\n');
          std::_Exit(EXIT_FAILURE);
        }
      }) {}

}  // namespace syncbn::app
