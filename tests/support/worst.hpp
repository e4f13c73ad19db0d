// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

namespace syncbn::test {

/// Keeps the largest of the errors it is shown; a NaN is larger than any.
class Worst {
 public:
  void see(double error) {
    if (!(error <= value_)) {
      value_ = std::isnan(error) ? HUGE_VAL : error;
    }
  }
  double value() const { return value_; }

 private:
  double value_ = 0;
};

}  // namespace syncbn::test
