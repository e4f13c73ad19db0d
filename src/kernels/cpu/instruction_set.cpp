// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string_view>

#include "syncbn/backend.hpp"

#include "kernels/cpu/targets.hpp"

namespace syncbn {

std::string_view instruction_set() {
  // HWY_DYNAMIC_DISPATCH makes the same choice: a lower bit is a better target.
  const std::int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(usable == 0 ? HWY_STATIC_TARGET : usable & -usable);
}

}  // namespace syncbn
