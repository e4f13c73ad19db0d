// SPDX-License-Identifier: Apache-2.0
#include "app/idle_wait.hpp"

#include <algorithm>
#include <thread>
#include <vector>

#include "comm/group/access.hpp"
#include "comm/group/descriptor.hpp"
#include "comm/group/group.hpp"
#include "trainer/stopwatch.hpp"

namespace syncbn::app {

void wait_for_all(const Communicator& world, std::chrono::milliseconds patience) {
  constexpr auto longest_nap = std::chrono::microseconds(20000);
  auto nap = std::chrono::microseconds(200);
  comm::Group& group = comm::Access::group(world);
  const comm::Descriptor what{.count = 1};
  std::vector<double> word{0.0};
  PendingSum sum = group.start(what, word);
  const trainer::Stopwatch watch;
  const double limit = std::chrono::duration<double>(patience).count();
  while (!group.arrived(what, sum) && watch.seconds() < limit) {
    std::this_thread::sleep_for(nap);
    nap = std::min(2 * nap, longest_nap);
  }
  group.finish(what, sum);
}

}  // namespace syncbn::app
