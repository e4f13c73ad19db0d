// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace syncbn::app {

/// HugePages says what a system does about transparent huge pages.
enum class HugePages : std::uint8_t {
  everywhere,  ///< gives them to all large memory
  on_request,  ///< gives them to memory that asks for them, as a tensor's does
  none_came,   ///< says that it gives them, but gave none
  never,       ///< refuses them
  unknown,     ///< has none, or does not say
};

/// Tells from `setting`, the text of /sys/kernel/mm/transparent_hugepage/enabled, e.g. "always
/// [madvise] never", and from `came`, whether a tensor got huge pages, what the system does.
HugePages huge_pages(std::string_view setting, bool came);

/// Finds out what this system does, with a tensor of 4 MiB.
HugePages huge_pages_here();

/// Returns a sentence for `syncbn info` about what was found and what follows from it.
std::string explain(HugePages found);

}  // namespace syncbn::app
