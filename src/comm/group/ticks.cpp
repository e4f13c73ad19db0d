// SPDX-License-Identifier: Apache-2.0
#include "comm/group/ticks.hpp"

#include <chrono>
#include <thread>

namespace syncbn::comm {
namespace {

using Clock = std::chrono::steady_clock;

struct Moment {
  Clock::time_point time = Clock::now();
  Ticks ticks = ticks_now();
};

const Moment beginning;

}  // namespace

double seconds_per_tick() {
  constexpr std::chrono::milliseconds enough(1);  // makes the relative error less than 1e-3
  Moment now;
  while (now.time - beginning.time < enough) {
    std::this_thread::sleep_for(enough);
    now = Moment();
  }
  return std::chrono::duration<double>(now.time - beginning.time).count() /
         static_cast<double>(now.ticks - beginning.ticks);
}

}  // namespace syncbn::comm
