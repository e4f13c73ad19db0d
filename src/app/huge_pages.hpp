// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace syncbn::app {

/// What a system does about transparent huge pages.
enum class HugePages : std::uint8_t {
  everywhere,  ///< gives them to all large memory
  on_request,  ///< gives them to memory that asks for them, as a tensor's does
  none_came,   ///< says that it gives them, but gave none
  never,       ///< refuses them
  unknown,     ///< has none, or does not say
};

/// `setting` is the text of /sys/kernel/mm/transparent_hugepage/enabled, as "always [madvise]
/// never"; `came` whether a tensor got some.
HugePages huge_pages(std::string_view setting, bool came);

/// This system's, found out with a tensor of 4 MiB.
HugePages huge_pages_here();

/// A sentence for `syncbn info`, what follows from it included.
std::string explain(HugePages found);

}  // namespace syncbn::app
