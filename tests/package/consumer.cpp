// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <vector>

#include "syncbn/syncbn.hpp"

// Two channels of 1, 3 and 5, 9: normalized, each is -1, 1 (eps = 0).
int main() {
  syncbn::BatchNorm layer(2, syncbn::Communicator::self(), {.eps = 0});
  const std::vector<float> x = {1, 5, 3, 9};
  std::vector<float> y(x.size());
  syncbn::ForwardRecord record;
  const syncbn::Shape shape{.n = 2, .c = 2};
  layer.forward({x.data(), shape}, {y.data(), shape}, record);
  const float worst = std::fmax(std::fmax(std::fabs(y[0] + 1), std::fabs(y[1] + 1)),
                                std::fmax(std::fabs(y[2] - 1), std::fabs(y[3] - 1)));
  std::printf("syncbn %s: off by %g\n", syncbn::version().data(), worst);
  return worst < 1e-6F ? 0 : 1;
}
