// SPDX-License-Identifier: Apache-2.0
#include "bn/exact_workspace.hpp"

#include "kernels/windows.hpp"

namespace syncbn::bn {

ExactWorkspace::ExactWorkspace(std::int64_t channels) {
  const auto c = static_cast<std::size_t>(channels);
  for (auto* exponents : {&first_window, &second_window, &first_exponent, &second_exponent,
                          &largest_exponent, &gradient_exponent}) {
    exponents->assign(c, kernels::no_exponent);
  }
  known.resize(c);
  first.resize(c);
  second.resize(c);
  outside.resize(c);
  again.resize(c);
  for (auto* values : {&largest, &first_magnitude, &second_magnitude, &first_own_special,
                       &second_own_special, &first_special, &second_special}) {
    values->assign(c, 0);
  }
  var.assign(c, -1);
}

}  // namespace syncbn::bn
